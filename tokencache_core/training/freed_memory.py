"""Freed memory goes back to the system at once, for trainings on a CPU.

The C library of Linux keeps what is freed for later. The tensors of a training live for unequal times and leave gaps
that the next ones do not fit into, so that its process grows to several times what the tensors take
(docs/robustness.md). Tensors in mappings of their own leave no gaps.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>
_OWN_MAPPING = 1 << 18  # bytes from which on a tensor has a mapping of its own
_USUAL = 32 << 20  # up to which glibc raises the threshold by itself, in any process that frees large tensors


@contextmanager
def given_back_at_once() -> Iterator[bool]:
    """While open, freed tensors of 256 KiB and more go back to the system; False where the C library is not glibc."""
    library = _glibc()
    if library is None:
        yield False
        return
    done = bool(library.mallopt(_MMAP_THRESHOLD, _OWN_MAPPING))
    try:
        yield done
    finally:
        library.mallopt(_MMAP_THRESHOLD, _USUAL)


def give_back() -> None:
    """Give the system back what has been freed and kept for later, if the C library is glibc."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
