"""Every candidate of the benchmark in turn, several times over, in one process, each beside whole runs of its own time.

A machine's clock wanders by a third within minutes, so a speed-up is not the ratio of two medians of an hour: the whole
run is repeated whenever others have taken a few times its seconds, and a run's speed-up is the median of the whole runs
NEAREST to it in time by its own seconds. (One or two of them are not enough: a single run's seconds are as restless as
what is compared with them.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from torch import Tensor

BASELINE_EVERY = 4  # a whole run is repeated after so many times its seconds
NEAREST = 4


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
    """What the runs of one candidate gave: the pictures of the first (runs are deterministic), and seconds and the
    moment of each.
    """

    pictures: Tensor | None = None
    compute: float = 0.0
    seconds: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    speedups: list[float] = field(default_factory=list)  # one a run, against its baseline's; a baseline's own: 1


def planned_seconds(candidates: Sequence[Candidate], repeats: int) -> float:
    return repeats * sum(candidate.expected_seconds for candidate in candidates) * (1 + 1 / BASELINE_EVERY)


def baselines_of(candidates: Sequence[Candidate]) -> dict[str, int]:
    """The index of each method that is a baseline: exactly one candidate must be of it."""
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
    before: Callable[[Candidate], None] = lambda candidate: None,
) -> list[Measurement]:
    """Run all candidates once, then all again, and so on; `before` is told of each. Each round starts at another one,
    so that a machine that slows down or speeds up during a round does not always favour the same rows.
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
        if one.pictures is None:
            one.pictures, one.compute = pictures, compute

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
    """Of a whole run at that moment: the median of those nearest to it in time."""
    runs = sorted(zip(whole.ended, whole.seconds), key=lambda run: abs(run[0] - moment))[:NEAREST]
    return median(seconds for _, seconds in runs)
