"""`make check`: checks style, types and the tests of the core, which need no server.

Each check runs, whatever the results of the others.
"""

from __future__ import annotations

import subprocess
import sys
import time

import javascript_checks
from comfy_location import ROOT

TESTS = ("tests/core", "tests/repository/test_structure.py")


def main() -> int:
    ruff, pytest = [sys.executable, "-m", "ruff"], [sys.executable, "-m", "pytest"]
    commands = {"style": [*ruff, "check"], "format": [*ruff, "format", "--check", "--quiet"]}
    if "--without-tests" not in sys.argv:
        commands["tests"] = [
            *pytest,
            "-q",
            "-n",
            "auto",
            "--maxprocesses",
            "4",
            "-m",
            "not server and not slow",
            *TESTS,
        ]
    try:
        npm = javascript_checks.ensure_packages()
    except (javascript_checks.Unavailable, javascript_checks.PackagesError) as error:
        print(f"types: not checked: {error}", file=sys.stderr)
    else:
        commands |= {"types": [npm, "run", "--silent", "python-types"], "JavaScript": [npm, "run", "--silent", "check"]}
    return max([_run(name, command) for name, command in commands.items()])


def _run(name: str, command: list[str]) -> int:
    """Run a check; returns its exit code. Its output is shown only if it fails."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(f"{name}: {'passed' if done.returncode == 0 else 'FAILED'} ({time.monotonic() - started:.0f} s)", flush=True)
    if done.returncode:
        print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
