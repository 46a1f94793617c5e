"""I-steps at places that were found in one run, and the same places in runs of other lengths and schedules.

A place is a noise time (sampling/noise_time.py), not a step's number: on another schedule the same noise lies at
another step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAME_TIME = 1e-3  # noise times that differ by less are one


def nearest_steps(times: Sequence[float], taus: Sequence[float]) -> tuple[int, ...]:
    """The steps of a run at `taus` that are nearest to `times`, one each, rising, from 0. times: falling, no more than
    steps.
    """
    found: list[int] = []
    for number, time in enumerate(times[: len(taus)]):
        wanted = min(range(len(taus)), key=lambda step: abs(taus[step] - time)) if number else 0
        least, most = (
            (found[-1] + 1 if found else 0),
            len(taus) - (min(len(times), len(taus)) - number),
        )  # as many must still fit behind it
        found.append(min(max(wanted, least), most))
    return tuple(found)


def same_run(taus: Sequence[float], others: Sequence[float]) -> bool:
    """Whether two runs have their steps at the same noise."""
    return len(taus) == len(others) and all(abs(a - b) < SAME_TIME for a, b in zip(taus, others))


def carried(places: Sequence[int], taus: Sequence[float], count: int, into: Sequence[float]) -> tuple[int, ...]:
    """`count` I-steps of a run at `into` that lie as densely, at each noise time, as `places` do in a run at `taus`.

    The curve through the places (which I-step, at which noise time) is read off at `count` even points.
    """
    if len(places) == count and same_run(taus, into):
        return tuple(places)
    times = []
    for number in range(count):
        at = number * (len(places) - 1) / max(1, count - 1)
        before = min(int(at), max(0, len(places) - 2))
        first, last = taus[places[before]], taus[places[min(before + 1, len(places) - 1)]]
        times.append(first + (at - before) * (last - first))
    return nearest_steps(times, into)


@dataclass(frozen=True)
class PlacedSchedule:
    """The listed I-steps of a run whose steps lie at the noise times `taus`; another run has as large a share, at the
    same noise.
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
