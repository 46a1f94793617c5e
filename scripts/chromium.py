"""Finds the Chromium that shows ComfyUI's page in tests and screenshots. Run as a script, it installs the system's
package if it can.

Without a Chromium, tests of the page are skipped and say why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW = "install the package chromium, or set CHROME_PATH to a Chromium or Chrome"


def chromium() -> str | None:
    """The program in CHROME_PATH, even if it does not exist; else the system's, if there is one."""
    return os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, NAMES)), None)


def main() -> None:
    if chromium() is None and not _installed():
        print(f"Tests of ComfyUI's page will be skipped: {HOW}.", file=sys.stderr)


def _installed() -> bool:
    """Whether Debian's package, or Ubuntu's, could be installed; only root may."""
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    print("Installing the package chromium, for tests of ComfyUI's page", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium"]
    for command in (["apt-get", "update", "--quiet"], install):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
            return False
    return chromium() is not None


if __name__ == "__main__":
    main()
