"""I-steps at places found in one run, and their transfer to runs of other lengths and noise schedules.

Places are transferred by noise time (sampling/noise_time.py), not by step number: on another schedule the same noise
level lies at another step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAME_TIME = 1e-3  # noise times that differ by less are equal


def nearest_steps(times: Sequence[float], taus: Sequence[float]) -> tuple[int, ...]:
    """For each of `times`, the nearest free step of a run at `taus`; they rise from 0.

    times: falling, at most as many as steps.
    taus: noise times of the run's steps, falling.
    """
    found: list[int] = []
    for number, time in enumerate(times[: len(taus)]):
        wanted = min(range(len(taus)), key=lambda step: abs(taus[step] - time)) if number else 0
        lowest = found[-1] + 1 if found else 0
        highest = len(taus) - (min(len(times), len(taus)) - number)  # leaves room for the remaining ones
        found.append(min(max(wanted, lowest), highest))
    return tuple(found)


def same_run(taus: Sequence[float], others: Sequence[float]) -> bool:
    """Whether two runs have their steps at the same noise times."""
    return len(taus) == len(others) and all(abs(a - b) < SAME_TIME for a, b in zip(taus, others))


def carried(places: Sequence[int], taus: Sequence[float], count: int, into: Sequence[float]) -> tuple[int, ...]:
    """Places transferred to another run, with the same relative density of I-steps at each noise time.

    The curve of noise time over I-step number is interpolated at `count` evenly spaced points.

    places, taus: I-steps of a run, and the noise times of its steps.
    count: number of I-steps wanted.
    into: noise times of the other run's steps, falling.
    """
    if len(places) == count and same_run(taus, into):
        return tuple(places)
    times: list[float] = []
    for number in range(count):
        at = number * (len(places) - 1) / max(1, count - 1)
        before = min(int(at), max(0, len(places) - 2))
        first, last = taus[places[before]], taus[places[min(before + 1, len(places) - 1)]]
        times.append(first + (at - before) * (last - first))
    return nearest_steps(times, into)


@dataclass(frozen=True)
class PlacedSchedule:
    """I-steps at places found in one run; another run gets the same share of I-steps, at the same noise times.

    places: the I-steps, rising from 0.
    taus: the noise times of that run's steps, falling.
    """

    places: tuple[int, ...]
    taus: tuple[float, ...]

    def __post_init__(self) -> None:
        steps = len(self.taus)
        rising = all(a < b for a, b in zip(self.places, self.places[1:]))
        if not self.places or self.places[0] != 0 or not rising or self.places[-1] >= steps:
            raise ValueError(
                f"I-steps of a run of {steps} steps must rise from 0 to {steps - 1} at most; {list(self.places)} do not"
            )

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        count = max(1, round(len(self.places) * len(taus) / len(self.taus)))
        return frozenset(carried(self.places, self.taus, count, taus))
