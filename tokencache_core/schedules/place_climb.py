"""Local search for the places of I-steps with the smallest error: hill climbing from several starting points.

The search finds what a simulation is wrong about, too. Places whose gaps change abruptly owe their small simulated
errors to chance more often than to the model, so that they must be better by `PER_CHANGE` (docs/findings/places.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .noise_places import even_in_noise, even_in_steps

Places = tuple[int, ...]
Errors = Callable[[Sequence[Places]], np.ndarray]  # from several lists of places to their errors, (lists,)
POWERS = (1.0, 1.25, 1.6)  # of the starting points that are even in noise (schedules/noise_places.py)
PER_CHANGE = 0.25  # dB that count against two neighbouring gaps of which one is twice as long
FARTHEST = 4  # largest distance by which a move takes one I-step elsewhere
ENOUGH = 1e-9  # smallest decrease of the error that counts


def best_places(count: int, taus: Sequence[float], errors: Errors, fixed: int = 1) -> Places:
    """The places with the smallest error that the local searches find.

    count: number of I-steps.
    taus: noise times of the run's steps, falling.
    errors: measures the error of places.
    fixed: number of first steps that are always I-steps.
    """
    steps = len(taus)
    first = {even_in_noise(count, taus, fixed, power) for power in POWERS}
    if fixed == 1:
        first.add(even_in_steps(count, steps))

    def counted(candidates: Sequence[Places]) -> np.ndarray:
        return errors(candidates) + PER_CHANGE * np.array([unevenness(places) for places in candidates])

    return min((climbed(start, steps, counted, fixed) for start in sorted(first)), key=lambda found: found[1])[0]


def unevenness(places: Places) -> float:
    """The sum over neighbouring gaps of the squared logarithm of their ratio, to the base of 2."""
    return float((np.diff(np.log2(np.diff(places))) ** 2).sum())


def climbed(places: Places, steps: int, errors: Errors, fixed: int = 1) -> tuple[Places, float]:
    """The local optimum that a search from `places` reaches, and its error.

    places: the starting point, rising from 0; the first `fixed` are never moved.
    steps: number of steps of the run.
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
    """The neighbours of `places`: one I-step moved by at most `FARTHEST` steps, or all from one on shifted by a step,
    but not the first `fixed`.
    """
    free = [step for step in range(1, steps) if step not in places]
    for index in range(fixed, len(places)):
        others = places[:index] + places[index + 1 :]
        for step in free:
            if abs(step - places[index]) <= FARTHEST:
                yield tuple(sorted((*others, step)))
        for by in (-1, 1):
            moved = tuple(place + by for place in places[index:])
            if moved[0] > places[index - 1] and moved[-1] < steps:
                yield places[:index] + moved
