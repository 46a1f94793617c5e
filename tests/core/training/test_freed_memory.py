"""Freed tensors leave gaps in the process's memory, or go back to the system."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tokencache_core.training.freed_memory import given_back_at_once

MIB = 1 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def given_back() -> float:
    """The share that the system gets back when every second of many tensors is freed."""
    tensors = [torch.ones(3 * MIB // 4) for _ in range(64)]
    full = resident()
    del tensors[::2]
    return (full - resident()) / (32 * 3 * MIB)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_what_is_freed_goes_back_while_it_is_open_alone():
    with given_back_at_once() as works:
        if not works:
            pytest.skip("the C library is not glibc")
        assert given_back() > 0.9
    assert given_back() < 0.1
