"""The places of I-steps that a measure of error likes best: from several first places on, the best of all small moves,
while one helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random

import numpy as np

from .noise_places import even_in_noise

Places = tuple[int, ...]
Errors = Callable[[Sequence[Places]], np.ndarray]  # of several lists of places at once, the less the better
POWERS = (1.0, 1.25, 1.6)  # of the first places (schedules/noise_places.py)
DRAWN = 3  # more first places, at random
ENOUGH = 1e-9  # by which the error must fall


def best_places(
    count: int, taus: Sequence[float], errors: Errors, fixed: int = 1, starts: Iterable[Places] = ()
) -> Places:
    """`count` I-steps, of which the first `fixed` are the run's first, that `errors` likes best of all that climbs lead
    to.

    taus: noise times of the run's steps. starts: first places beside the usual ones.
    """
    steps, random = len(taus), Random(0)
    first = {even_in_noise(count, taus, fixed, power) for power in POWERS} | set(starts)
    first |= {(*range(fixed), *sorted(random.sample(range(fixed, steps), count - fixed))) for _ in range(DRAWN)}
    return min((climbed(start, steps, errors, fixed) for start in sorted(first)), key=lambda found: found[1])[0]


def climbed(places: Places, steps: int, errors: Errors, fixed: int = 1) -> tuple[Places, float]:
    """As many I-steps of a run of `steps`, of which no single move makes less error, and their error.

    places: rising, from 0; the first `fixed` stay.
    """
    least = float(errors([places])[0])
    while moves := list(neighbours(places, steps, fixed)):
        found = errors(moves)
        best = int(found.argmin())
        if not found[best] < least - ENOUGH:
            break
        places, least = moves[best], float(found[best])
    return places, least


def neighbours(places: Places, steps: int, fixed: int = 1) -> Iterator[Places]:
    """One I-step at any other place, or all from one on moved by a step; the first `fixed` stay."""
    free = [step for step in range(1, steps) if step not in places]
    for index in range(fixed, len(places)):
        others = places[:index] + places[index + 1 :]
        for step in free:
            yield tuple(sorted((*others, step)))
        for by in (-1, 1):
            moved = tuple(place + by for place in places[index:])
            if moved[0] > places[index - 1] and moved[-1] < steps:
                yield places[:index] + moved
