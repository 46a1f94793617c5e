"""Measures every candidate of the benchmark in turn, several times, in one process, with full runs in between.

A machine's speed drifts by a third within minutes, so a speed-up must not be the ratio of two medians over an hour. The
full run is repeated whenever others have taken a few times its seconds, and a run's speed-up is the median seconds of
the NEAREST full runs in time divided by its own seconds. (One or two full runs are not enough: their seconds are as
noisy as those that are compared with them.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from torch import Tensor

BASELINE_EVERY = 4  # the full run is repeated after so many times its own seconds
NEAREST = 4  # full runs that a run is compared with


@dataclass(frozen=True)
class Candidate:
    """One row to be measured: a method under one setting.

    run: gives pictures (B, C, H, W) and the compute share.
    expected_seconds: of one run.
    note: for the row.
    matched_to: the settings of the `tokencache` row whose seconds this one is planned to take.
    baseline: the method with whose only row its speed and samples are compared.
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
    """The measurements of one candidate.

    first_pictures: (B, C, H, W) of its first run (runs are deterministic); None before it.
    compute: the compute share.
    seconds, ended: of each run, and the clock's time at its end.
    speedups: of each run against the baseline; 1 for a baseline itself.
    """

    first_pictures: Tensor | None = None
    compute: float = 0.0
    seconds: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    speedups: list[float] = field(default_factory=list)

    @property
    def pictures(self) -> Tensor:
        """The pictures (B, C, H, W) of a candidate that has been run."""
        assert self.first_pictures is not None
        return self.first_pictures


def planned_seconds(candidates: Sequence[Candidate], repeats: int) -> float:
    return repeats * sum(candidate.expected_seconds for candidate in candidates) * (1 + 1 / BASELINE_EVERY)


def baselines_of(candidates: Sequence[Candidate]) -> dict[str, int]:
    """The index of the only candidate of each method that is a baseline; ValueError unless there is exactly one."""
    found: dict[str, int] = {}
    for name in {candidate.baseline for candidate in candidates}:
        (found[name],) = [index for index, candidate in enumerate(candidates) if candidate.method == name]
    return found


def measure_interleaved(
    candidates: Sequence[Candidate],
    repeats: int,
    *,
    synchronize: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
    before: Callable[[Candidate], object] = lambda candidate: None,
) -> list[Measurement]:
    """Run all candidates once, then all again, and so on.

    Each round starts at another candidate, so that a machine that slows down or speeds up during a round does not
    always favour the same rows.

    repeats: the number of rounds.
    synchronize: waits for the device.
    clock: the time in seconds.
    before: called before each candidate's turn.
    """
    measured = [Measurement() for _ in candidates]

    def run(index: int) -> None:
        synchronize()
        started = clock()
        pictures, compute = candidates[index].run()
        synchronize()
        one = measured[index]
        one.ended.append(clock())
        one.seconds.append(one.ended[-1] - started)
        if one.first_pictures is None:
            one.first_pictures, one.compute = pictures, compute

    baselines = baselines_of(candidates)
    for repeat in range(repeats):
        start = repeat * len(candidates) // repeats
        for index in [*range(start, len(candidates)), *range(start)]:
            baseline = baselines[candidates[index].baseline]
            before(candidates[index])
            if index != baseline and _is_due(measured[baseline], clock()):
                run(baseline)
            run(index)
    for index, candidate in enumerate(candidates):
        one, whole = measured[index], measured[baselines[candidate.baseline]]
        one.speedups = [
            1.0 if one is whole else _seconds_at(whole, ended) / seconds
            for ended, seconds in zip(one.ended, one.seconds)
        ]
    return measured


def _is_due(whole: Measurement, now: float) -> bool:
    return not whole.ended or now - whole.ended[-1] > BASELINE_EVERY * whole.seconds[-1]


def _seconds_at(whole: Measurement, moment: float) -> float:
    """The seconds of a full run at a time of the clock: the median of the NEAREST ones."""
    runs = sorted(zip(whole.ended, whole.seconds), key=lambda run: abs(run[0] - moment))[:NEAREST]
    return median(seconds for _, seconds in runs)
