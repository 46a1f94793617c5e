"""Wall-clock seconds of a piece of work, on a CPU or, without stalling it, on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


class Stopwatch:
    """A stopwatch that starts when it is made.

    `stop()` marks the end. `seconds()` waits for a GPU to reach it; call it when the work is certainly done.
    """

    def __init__(self, device: torch.device) -> None:
        self.events = None
        if device.type == "cuda":
            self.events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self.events[0].record()
        self.started = time.perf_counter()

    def stop(self) -> None:
        self.stopped = time.perf_counter()
        if self.events:
            self.events[1].record()

    def seconds(self) -> float:
        if self.events:
            self.events[1].synchronize()
            return self.events[0].elapsed_time(self.events[1]) / 1000
        return self.stopped - self.started


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """The result of `run`, and the seconds it took."""
    started = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - started
