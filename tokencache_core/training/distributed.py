"""Processes that train together, each on its own part of every batch.

`accelerate launch --multi_gpu --num_processes 2 -m tokencache_core train ...` starts them, also on CPUs (accelerate's
own --cpu needs MPI).
"""

from __future__ import annotations

import os

import torch
from torch import Tensor


class Processes:
    """A single process.

    rank: the index of this process among `count`.
    device: where it computes; None: wherever the model is.
    """

    rank, count = 0, 1
    device: torch.device | None = None

    def mean(self, values: Tensor) -> Tensor:
        """The mean of all processes' `values`, the same in each process."""
        return values

    def close(self) -> None:
        """End the communication threads: one that is still releasing a tensor when Python exits aborts the process."""


class LaunchedProcesses(Processes):
    """The processes that `accelerate launch` started. cpu: compute on CPUs."""

    def __init__(self, cpu: bool) -> None:
        # if imported later, its default arguments would keep the process group from being destroyed
        import torch.distributed.nn  # noqa: F401
        from accelerate import PartialState  # slow to import, and only needed by several processes

        self.state = state = PartialState(cpu=cpu)
        self.rank, self.count, self.device = state.process_index, state.num_processes, state.device

    def mean(self, values: Tensor) -> Tensor:
        from accelerate.utils import reduce

        mean = reduce(values, "mean")
        assert isinstance(mean, Tensor)
        return mean

    def close(self) -> None:
        self.state.destroy_process_group()


def launched(device: torch.device) -> Processes:
    """The processes that were launched to train on devices of this type, or this process alone."""
    return LaunchedProcesses(device.type == "cpu") if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Processes()
