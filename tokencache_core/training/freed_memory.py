"""Freed memory goes back to the system: when a training on a CPU is over, or, where memory is short, at once.

The C library of Linux keeps what is freed for later. The tensors of a training live for unequal times and leave gaps
that the next ones do not fit into, so that its process grows to two to three times what the tensors take. Tensors in
mappings of their own leave no gaps; making the mappings costs about half as much time again.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

GROWTH = 3.0  # a training's process may grow to so many times its tensors (2.1 to 2.9 on the reference DiT)
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>
_OWN_MAPPING = 1 << 20  # bytes from which on a tensor has a mapping of its own
_USUAL = 32 << 20  # up to which glibc raises the threshold by itself, in any process that frees large tensors


@contextmanager
def given_back_at_once() -> Iterator[bool]:
    """While open, freed tensors of 1 MiB and more go back to the system; False where the C library is not glibc."""
    library = _glibc()
    if library is None:
        yield False
        return
    done = bool(library.mallopt(_MMAP_THRESHOLD, _OWN_MAPPING))
    try:
        yield done
    finally:
        library.mallopt(_MMAP_THRESHOLD, _USUAL)
        give_back()


def give_back() -> None:
    """Give the system back what has been freed and kept for later, if the C library is glibc."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
