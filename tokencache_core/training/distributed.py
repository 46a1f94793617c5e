"""Processes that train together, each on its own part of every batch.

`accelerate launch --multi_gpu --num_processes 2 -m tokencache_core train ...` starts them, on CPUs as well (its --cpu
alone wants an MPI).
"""

from __future__ import annotations

import os

import torch
from torch import Tensor


class Processes:
    """One process alone. rank: which of the `count` this is. device: where it computes, None for anywhere."""

    rank, count = 0, 1
    device: torch.device | None = None

    def mean(self, values: Tensor) -> Tensor:
        """The mean of every process's `values`, the same in all of them."""
        return values

    def close(self) -> None:
        """End the threads that talk to the others: one that is still letting go of a tensor when Python ends aborts the
        process.
        """


class LaunchedProcesses(Processes):
    def __init__(self, cpu: bool) -> None:
        import torch.distributed.nn  # noqa: F401 - imported later, its default arguments would keep the group from being destroyed
        from accelerate import PartialState  # slow to load, and needed by nobody who trains in one process

        self.state = state = PartialState(cpu=cpu)
        self.rank, self.count, self.device = state.process_index, state.num_processes, state.device

    def mean(self, values: Tensor) -> Tensor:
        from accelerate.utils import reduce

        return reduce(values, "mean")

    def close(self) -> None:
        self.state.destroy_process_group()


def launched(device: torch.device) -> Processes:
    """All that were launched to train on devices of this kind, or this one alone."""
    return LaunchedProcesses(device.type == "cpu") if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Processes()
