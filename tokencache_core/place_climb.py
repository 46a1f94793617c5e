"""The places of I-steps that a measure of error likes best, from first places on: the best of all small moves, while one helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Places = tuple[int, ...]
ENOUGH = 1e-9   # by which the error must fall


def climbed(places: Places, steps: int, errors: Callable[[Sequence[Places]], np.ndarray]) -> tuple[Places, float]:
    """As many I-steps of a run of `steps`, of which no single move makes less error, and their error.

    places: rising, from 0. errors: of several such lists at once.
    """
    least = float(errors([places])[0])
    while moves := list(neighbours(places, steps)):
        found = errors(moves)
        best = int(found.argmin())
        if not found[best] < least - ENOUGH:
            break
        places, least = moves[best], float(found[best])
    return places, least


def neighbours(places: Places, steps: int) -> Iterator[Places]:
    """One I-step at any other place, or all from one on moved by a step; step 0 stays."""
    free = [step for step in range(1, steps) if step not in places]
    for index in range(1, len(places)):
        others = places[:index] + places[index + 1 :]
        for step in free:
            yield tuple(sorted((*others, step)))
        for by in (-1, 1):
            moved = tuple(place + by for place in places[index:])
            if moved[0] > places[index - 1] and moved[-1] < steps:
                yield places[:index] + moved
