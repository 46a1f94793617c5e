"""Atomic writing of files: a file appears complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PART = ".part"


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of `path` that killed processes have left. No other process may be writing it."""
    for part in path.parent.iterdir():
        if part.name.startswith(_started(path)) and part.name.endswith(_PART):
            part.unlink(missing_ok=True)


def _started(path: Path) -> str:
    """How the names of the temporary files of `path` begin."""
    return f".{path.name}."


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to, which replaces `path` on exit and is deleted after an exception."""
    part = path.with_name(f"{_started(path)}{os.getpid()}{_PART}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
