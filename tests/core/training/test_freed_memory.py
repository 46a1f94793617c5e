"""Freed tensors leave gaps in a process's memory, or go back to the system. In a process of its own: in an older one
some of the tensors take the places of others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from tokencache_core.training.freed_memory import give_back, given_back_at_once

ROOT = Path(__file__).resolve().parents[3]
MIB = 1 << 20


def resident() -> int:
    return psutil.Process().memory_info().rss


def given_back() -> tuple[float, float]:
    """The share that the system gets back when every second of many tensors is freed, and then by `give_back`."""
    tensors = [torch.ones(3 * MIB // 4) for _ in range(64)]
    full = resident()
    del tensors[::2]
    freed = resident()
    give_back()
    return (full - freed) / (32 * 3 * MIB), (freed - resident()) / (32 * 3 * MIB)


def test_what_is_freed_goes_back_at_once_or_when_asked():
    done = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    works, (within, _), (after, when_asked) = json.loads(done.stdout)
    if not works:
        pytest.skip("the C library is not glibc")
    assert within > 0.9 and after < 0.1 and when_asked > 0.9


if __name__ == "__main__":
    with given_back_at_once() as works:
        within = given_back()
    print(json.dumps([works, within, given_back()]))
