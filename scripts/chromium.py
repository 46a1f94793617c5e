"""Finds the Chromium that shows ComfyUI's page in tests and screenshots. Run as a script, it installs the system's
package, and a font for Chinese, if it can.

Without a Chromium, tests of the page are skipped and say why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHINESE_FONT = "fonts-wqy-microhei"  # 2 MB; without one, a Debian without a desktop shows Chinese as empty boxes
HOW = "install the package chromium, or set CHROME_PATH to a Chromium or Chrome"


def chromium() -> str | None:
    """The program in CHROME_PATH, even if it does not exist; else the system's, if there is one."""
    return os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, NAMES)), None)


def main() -> None:
    if chromium() is None and not _installed("chromium", CHINESE_FONT):
        print(f"Tests of ComfyUI's page will be skipped: {HOW}.", file=sys.stderr)
    elif not shows_chinese() and not _installed(CHINESE_FONT):
        print(f"Pictures of a Chinese page will show empty boxes: install the package {CHINESE_FONT}.", file=sys.stderr)


def shows_chinese() -> bool:
    """Whether the system has a font for Chinese, as far as fontconfig knows."""
    if shutil.which("fc-list") is None:
        return True
    return bool(subprocess.run(["fc-list", ":lang=zh-cn"], capture_output=True).stdout.strip())


def _installed(*packages: str) -> bool:
    """Whether Debian's packages, or Ubuntu's, could be installed; only root may."""
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    print(f"Installing {' and '.join(packages)}, for tests of ComfyUI's page", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "--quiet"], install):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
            return False
    return chromium() is not None


if __name__ == "__main__":
    main()
