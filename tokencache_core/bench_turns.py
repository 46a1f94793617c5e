"""Every candidate of the benchmark in turn, several times over, in one process, each beside whole runs of its own time.

A machine's clock wanders by a third within minutes, so a speed-up is never the ratio of two medians of an hour: the whole run
is repeated whenever others have taken a few times its seconds, and a run's speed-up is the mean of the whole runs just before
and just after it by its own seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

BASELINE_EVERY = 4      # a whole run is repeated after so many times its seconds


@dataclass(frozen=True)
class Candidate:
    """One row to be measured: a method under one setting. `run` gives pictures (B, C, H, W) and the compute share.

    matched_to: settings of the `tokencache` row whose seconds this one was laid out to take. baseline: the method whose
    (only) row its speed-up and its likeness are reckoned from.
    """

    method: str
    settings: dict[str, Any]
    run: Callable[[], tuple[Tensor, float]]
    expected_seconds: float
    note: str = ""
    matched_to: dict[str, Any] | None = None
    baseline: str = "full"


@dataclass
class Measurement:
    """What the runs of one candidate gave: the pictures of the first (runs are deterministic), and a speed-up each."""

    pictures: Tensor | None = None
    compute: float = 0.0
    seconds: list[float] = field(default_factory=list)
    speedups: list[float] = field(default_factory=list)     # a baseline's own: 1


def planned_seconds(candidates: Sequence[Candidate], repeats: int) -> float:
    return repeats * sum(candidate.expected_seconds for candidate in candidates) * (1 + 1 / BASELINE_EVERY)


def measure_interleaved(
    candidates: Sequence[Candidate], repeats: int, *,
    synchronize: Callable[[], None], clock: Callable[[], float] = time.perf_counter,
    before: Callable[[Candidate], None] = lambda candidate: None,
) -> list[Measurement]:
    """Run all candidates once, then all again, and so on; `before` is told of each. Each round starts at another one, so that a
    machine that slows down or speeds up during a round does not always favour the same rows. Exactly one candidate is of each
    method that is a baseline."""
    measured = [Measurement() for _ in candidates]

    def run(index: int) -> float:
        synchronize()
        started = clock()
        pictures, compute = candidates[index].run()
        synchronize()
        seconds = clock() - started
        measured[index].seconds.append(seconds)
        if measured[index].pictures is None:
            measured[index].pictures, measured[index].compute = pictures, compute
        return seconds

    besides: dict[str, _Beside] = {}
    for name in {candidate.baseline for candidate in candidates}:
        (baseline,) = [index for index, candidate in enumerate(candidates) if candidate.method == name]
        besides[name] = _Beside(baseline, measured, run, clock)
    for repeat in range(repeats):
        start = repeat * len(candidates) // repeats
        for index in [*range(start, len(candidates)), *range(start)]:
            beside = besides[candidates[index].baseline]
            for other in besides.values():
                if other is not beside:
                    other.settle()
            before(candidates[index])
            beside.run(index)
        for beside in besides.values():
            beside.settle()
    return measured


class _Beside:
    """Runs beside whole runs, of the candidate `baseline`, in time: those since the last one wait for the next."""

    def __init__(self, baseline: int, measured: Sequence[Measurement], run: Callable[[int], float], clock: Callable[[], float]) -> None:
        self.baseline, self.measured, self.run_one, self.clock = baseline, measured, run, clock
        self.whole_seconds, self.ended = 0.0, float("-inf")
        self.waiting: list[tuple[int, float]] = []

    def run(self, index: int) -> None:
        is_due = self.clock() - self.ended > BASELINE_EVERY * self.whole_seconds
        if index == self.baseline or is_due:
            self._run_whole()
        if index != self.baseline:
            self.waiting.append((index, self.run_one(index)))

    def settle(self) -> None:
        """Let none wait any longer."""
        if self.waiting:
            self._run_whole()

    def _run_whole(self) -> None:
        seconds = self.run_one(self.baseline)
        self.measured[self.baseline].speedups.append(1.0)
        for index, own in self.waiting:
            self.measured[index].speedups.append((self.whole_seconds + seconds) / 2 / own)
        self.whole_seconds, self.ended, self.waiting = seconds, self.clock(), []
