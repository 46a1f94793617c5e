"""The family tests once more on an older ComfyUI, so that what depends on a host's release is seen early."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from comfy_location import FETCHED_OLDER, ROOT


@pytest.mark.skipif(
    not (FETCHED_OLDER / "main.py").is_file(),
    reason="set-up fetches an older ComfyUI only beside its own, not where COMFYUI_PATH is set",
)
def test_families_on_an_older_comfyui():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/host/test_families.py"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"COMFYUI_PATH": str(FETCHED_OLDER)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 7
