"""Finds this checkout's real ComfyUI, and the name under which it sees this pack. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FETCHED = ROOT / ".comfyui"
FETCHED_OLDER = ROOT / ".comfyui-older"  # only for the tests
PACK_NAME = "comfyui-tokencache"


class ComfyLocationError(RuntimeError):
    """There is no usable ComfyUI at the given place."""


def comfyui_path() -> Path:
    """The ComfyUI at COMFYUI_PATH, else the one that set-up fetches into .comfyui/."""
    named = os.environ.get("COMFYUI_PATH")
    path = Path(named).expanduser().resolve() if named else FETCHED
    if not (path / "main.py").is_file():
        remedy = "point COMFYUI_PATH at a folder that holds ComfyUI's main.py" if named else "run `make setup`"
        raise ComfyLocationError(f"There is no ComfyUI in {path}: {remedy}.")
    return path


def pack_entry(comfyui: Path) -> str | None:
    """The name in ComfyUI's custom_nodes that leads to this checkout (a link, or the checkout itself), if any."""
    folder = comfyui / "custom_nodes"
    if not folder.is_dir():
        return None
    return next((entry.name for entry in sorted(folder.iterdir()) if entry.resolve() == ROOT), None)
