"""Installs hosts with several Pythons and torches, runs some tests there, and says in docs/compatibility.md what broke.

    python scripts/combinations.py --pythons python3.10 python3.12 python3.13
    python scripts/combinations.py --pythons python3.12 --torch 2.7.1 --hosts older

Each Python with each torch has a virtual environment in bench_output/combinations (about 7 GB), into which the host's
own requirements and the pack's are installed; a Python that has torch already, such as .venv/bin/python, is used as it
is. What has been found is kept, and a combination that was run again takes its row's place. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from comfy_location import FETCHED, FETCHED_OLDER, ROOT
from comfy_source import OLDER, PINNED

FOLDER = ROOT / "bench_output" / "combinations"
PAGE, HEADING = ROOT / "docs" / "compatibility.md", "\n## Hosts and Pythons\n"
HOSTS = {"pinned": (PINNED.version, FETCHED), "older": (OLDER.version, FETCHED_OLDER)}
TORCH = "2.11.0"
TESTS = (
    "tests/core/engine/test_session.py",
    "tests/core/predictor/test_predictor_file.py",
    "tests/host/test_newer_hosts.py",
    "tests/host/test_small_flux.py",
)
MINUTES = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="+", required=True, metavar="PROGRAM")
    parser.add_argument("--hosts", nargs="+", choices=HOSTS, default=list(HOSTS))
    parser.add_argument("--torch", nargs="+", default=[TORCH], metavar="VERSION", help=f"(default: {TORCH})")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for python in options.pythons:
        for torch in options.torch:
            for host in options.hosts:
                row = combination(python, torch, *HOSTS[host])
                print(" | ".join(row.values()), flush=True)
                *key, said = row.values()
                _keep(_kept() | {"|".join(key): said})
    write_page(_kept())
    return 0 if all(_is_right(said) for said in _kept().values()) else 1


def combination(python: str, torch: str, version: str, host: Path) -> dict[str, str]:
    """One row of the table: host, Python, torch, and the result in words."""
    row = {"host": version, "python": _python_version(python), "torch": torch}
    if not (host / "main.py").is_file():
        return row | {"said": f"ComfyUI {version} is not here: run `make setup`"}
    if _has_torch(Path(python)):
        program = Path(python)
    else:
        program = FOLDER / f"python{row['python']}-torch{torch}" / "bin" / "python"
        if broke := _installed(python, program, torch, host):
            return row | {"said": broke}
    return row | {"torch": _said(program, "import torch; print(torch.__version__)")} | {"said": _tested(program, host)}


def _installed(python: str, program: Path, torch: str, host: Path) -> str:
    """Install what the host and the pack need; returns what broke, or ""."""
    if not program.exists():
        subprocess.run([python, "-m", "venv", str(program.parents[1])], check=True)
    stamp = program.parents[1] / f"installed-for-{host.name}"  # removed with the environment
    if stamp.exists():
        return ""
    requirements = [option for file in (host, ROOT) for option in ("--requirement", str(file / "requirements.txt"))]
    command = [str(program), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command += [f"torch=={torch}", f"torchaudio=={torch}"]
    done = subprocess.run([*command, *requirements, "pytest>=8"], capture_output=True, text=True)
    if done.returncode != 0:
        return f"not installed: {_last_error(done.stderr)}"
    stamp.touch()
    return ""


def _tested(program: Path, host: Path) -> str:
    """The result of the tests in one environment, in words."""
    command = [str(program), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-m", "not server", *TESTS]
    environment = os.environ | {"COMFYUI_PATH": str(host)}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        return f"stopped after {MINUTES} minutes"
    (FOLDER / "last.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    summary = re.findall(r"^(?:=+ )?((?:\d+ \w+(?:, )?)+) in ", done.stdout, re.MULTILINE)
    if not summary:
        return f"the tests did not run: {_last_error(done.stdout + done.stderr)}"
    broken = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return summary[-1].strip() + (f": {', '.join(each.split('/')[-1] for each in broken)}" if broken else "")


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s*(E  |ERROR|\w*Error)", line)]
    return (lines or text.strip().splitlines() or ["no word"])[-1].replace("|", "/")[:300]


def _said(program: str | Path, code: str) -> str:
    return subprocess.run([str(program), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _python_version(program: str) -> str:
    return _said(program, "import platform; print(platform.python_version())")


def _has_torch(program: Path) -> bool:
    return subprocess.run([str(program), "-c", "import torch"], capture_output=True).returncode == 0


def _is_right(said: str) -> bool:
    return " passed" in said and not re.search(r"\d (failed|error)", said)


def _kept() -> dict[str, str]:
    file = FOLDER / "found.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _keep(found: dict[str, str]) -> None:
    (FOLDER / "found.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def write_page(found: dict[str, str]) -> None:
    """Replace the last section of docs/compatibility.md."""
    before = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    tests = ", ".join(f"`{test}`" for test in TESTS)
    lines = [
        f"Written by `python scripts/combinations.py`, which installs each combination from the package registry and "
        f"runs {tests} there, on the CPU.",
        "",
        "| ComfyUI | Python | torch | |",
        "|---|---|---|---|",
        *(f"| {key.replace('|', ' | ')} | {said} |" for key, said in sorted(found.items(), key=_order)),
    ]
    PAGE.write_text(before + HEADING + "\n" + "\n".join([*lines, ""]), encoding="utf-8")


def _order(row: tuple[str, str]) -> list[list[int]]:
    return [[int(number) for number in re.findall(r"\d+", part)] for part in row[0].split("|")]


if __name__ == "__main__":
    sys.exit(main())
