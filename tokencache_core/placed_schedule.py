"""I-steps at places that were found for one model, and the same places in runs of other lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def along(places: Sequence[int], steps: int, count: int, into: int) -> tuple[int, ...]:
    """`count` I-steps of a run of `into` steps that lie as densely, in each part of it, as `places` do in a run of `steps`.

    places: rising, from 0. The curve through them (which I-step, at which share of the run) is read off at `count` even points.
    """
    count = min(count, into)
    found: list[int] = []
    for number in range(count):
        place = 0.0
        if number:
            at = number * (len(places) - 1) / (count - 1)
            before = min(int(at), len(places) - 2)
            place = places[before] + (at - before) * (places[before + 1] - places[before]) if len(places) > 1 else number
        wanted = round(place * (into - 1) / max(1, steps - 1))
        least, most = (found[-1] + 1 if found else 0), into - (count - number)    # as many must still fit behind it
        found.append(min(max(wanted, least), most))
    return tuple(found)


@dataclass(frozen=True)
class PlacedSchedule:
    """The listed I-steps of a run of `steps`; a run of another length has as large a share of its own, along the same curve."""

    places: tuple[int, ...]
    steps: int

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.places, self.places[1:]))
        if not self.places or self.places[0] != 0 or not rising or self.places[-1] >= self.steps:
            raise ValueError(f"I-steps of a run of {self.steps} steps must rise from 0 to {self.steps - 1} at most; {list(self.places)} do not")

    def i_steps(self, taus: Sequence[Any]) -> frozenset[int]:
        if len(taus) == self.steps:
            return frozenset(self.places)
        count = max(1, round(len(self.places) * len(taus) / self.steps))
        return frozenset(along(self.places, self.steps, count, len(taus)))
