"""Which Chromium is taken, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from chromium import chromium
from comfy_location import ROOT


def program(folder: Path, name: str, text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_named_one_before_the_systems(tmp_path, monkeypatch):
    found = program(tmp_path, "google-chrome")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROME_PATH", raising=False)
    assert chromium() == str(found)
    monkeypatch.setenv("CHROME_PATH", "/opt/another")
    assert chromium() == "/opt/another"


def run_without_one(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CHROME_PATH"} | {"PATH": str(folder)}
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "chromium.py"], env=environment, capture_output=True, text=True, timeout=60
    )


def test_where_none_can_be_had_it_says_what_to_do(tmp_path):
    ran = run_without_one(tmp_path)  # no program to install one with
    assert ran.returncode == 0 and "will be skipped: install the package chromium, or set CHROME_PATH" in ran.stderr


def test_an_installation_that_fails_does_not_stop_the_tests(tmp_path):
    program(tmp_path, "apt-get", "#!/bin/sh\nexit 100\n")
    ran = run_without_one(tmp_path)
    assert ran.returncode == 0 and "will be skipped" in ran.stderr
