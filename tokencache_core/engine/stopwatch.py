"""Wall-clock seconds of a piece of work, on a CPU or, without stalling it, on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


class Stopwatch:
    """Started when made; `stop()` marks the end, `seconds()` may be asked once the work has surely ended."""

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


def timed(run: Callable) -> tuple:
    """What `run` gives, and its seconds."""
    started = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - started
