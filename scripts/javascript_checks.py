"""Checks web/js: types with TypeScript and style with ESLint, in the versions that package.json pins.

    .venv/bin/python scripts/javascript_checks.py

Their packages are in node_modules/, which npm fills at first use, and again whenever package-lock.json has changed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from comfy_location import ROOT

STAMP = "tokencache-checks"  # in node_modules
OLDEST_NODE = (20, 19)  # ESLint's
UNREACHABLE = (
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ENETUNREACH",
    "ENOTCACHED",
    "ERR_SOCKET_TIMEOUT",
)


class Unavailable(RuntimeError):
    """The checks cannot run on this machine; the message says what is missing."""


class PackagesError(RuntimeError):
    """npm could not install the packages in package-lock.json; the message says why."""


def ensure_packages(root: Path = ROOT) -> str:
    """Fill node_modules unless it matches package-lock.json; returns the npm command."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        raise Unavailable("npm is missing: install Node.js 20.19 or newer to check web/js")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_NODE:
        raise Unavailable(f"Node.js is {version or 'of an unknown version'}: install 20.19 or newer to check web/js")
    wanted = hashlib.sha256((root / "package-lock.json").read_bytes()).hexdigest()
    stamp = root / "node_modules" / STAMP
    if not (stamp.is_file() and stamp.read_text() == wanted):
        _install(npm, root)
        stamp.write_text(wanted)
    return npm


def _install(npm: str, root: Path) -> None:
    shutil.rmtree(root / "node_modules", ignore_errors=True)  # npm stumbles over what an interrupted call has left
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=root, capture_output=True, text=True
    )
    if done.returncode == 0:
        return
    if any(code in done.stderr for code in UNREACHABLE):
        raise Unavailable(
            "npm's registry cannot be reached: check the network and the proxy (npm config set proxy), or fill "
            "node_modules with `npm ci`"
        )
    raise PackagesError(
        "npm ci failed; after a change of package.json run `npm install` and commit "
        f"package-lock.json:\n{done.stderr.strip()}"
    )


def check(npm: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Check types, then style; returns the finished process with the output of both."""
    return subprocess.run(
        [npm, "run", "--silent", "check"], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def main() -> int:
    try:
        done = check(ensure_packages())
    except (Unavailable, PackagesError) as error:
        print(error, file=sys.stderr)
        return 1
    print(done.stdout.strip() or "web/js: types and style are fine")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
