"""Local search for the places of I-steps with the smallest error: hill climbing from several starting points.

Small moves alone would leave long runs with even gaps wherever every second or third step can be an I-step. A longer
first gap and a shorter last one are better there on most models (docs/findings/places.md), by several dB, but that
takes a shift of all I-steps between the two.

The search finds what a simulation is wrong about, too. Places whose gaps change abruptly owe their small simulated
errors to chance more often than to the model, so that they must be better by `PER_CHANGE` (docs/findings/places.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf

import numpy as np

from .noise_places import even_in_noise, even_in_steps

Places = tuple[int, ...]
Errors = Callable[[Sequence[Places]], np.ndarray]  # from several lists of places to their errors, (lists,)
POWERS = (1.0, 1.25, 1.6)  # of the starting points that are even in noise (schedules/noise_places.py)
PER_CHANGE = 0.25  # dB that count against two neighbouring gaps of which one is twice as long
FARTHEST = 4  # largest distance by which a move takes one I-step elsewhere
ENOUGH = 1e-9  # smallest decrease of the error that counts
LONG = 10  # smallest number of I-steps that a long shift moves at once
ENOUGH_OF_A_SHIFT = 1.0  # smallest decrease of the error, in dB, for which one is made: less is often chance


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
    while True:
        for moves, enough in ((small_moves, ENOUGH), (long_shifts, ENOUGH_OF_A_SHIFT)):
            best, error = _best_of(list(moves(places, steps, fixed)), errors)
            if error < least - enough:
                places, least = best, error
                break
        else:
            return places, least


def small_moves(places: Places, steps: int, fixed: int = 1) -> Iterator[Places]:
    """`places` with one I-step moved by at most `FARTHEST` steps, or all from one on shifted by a step; but not the
    first `fixed`.
    """
    free = [step for step in range(1, steps) if step not in places]
    for index in range(fixed, len(places)):
        others = places[:index] + places[index + 1 :]
        for step in free:
            if abs(step - places[index]) <= FARTHEST:
                yield tuple(sorted((*others, step)))
        yield from _shifted(places, index, len(places), steps)


def long_shifts(places: Places, steps: int, fixed: int = 1) -> Iterator[Places]:
    """`places` with `LONG` or more that follow one another shifted by a step, but neither the first `fixed` nor the
    last: a gap becomes longer, and another one, far from it, shorter.
    """
    for first in range(fixed, len(places)):
        for end in range(first + LONG, len(places)):
            yield from _shifted(places, first, end, steps)


def _shifted(places: Places, first: int, end: int, steps: int) -> Iterator[Places]:
    """`places` with those from number `first` to before `end` shifted by a step, either way, where there is room."""
    before, after = places[first - 1], (*places, steps)[end]
    for by in (-1, 1):
        moved = tuple(place + by for place in places[first:end])
        if before < moved[0] and moved[-1] < after:
            yield places[:first] + moved + places[end:]


def _best_of(candidates: Sequence[Places], errors: Errors) -> tuple[Places, float]:
    """The candidate with the smallest error, and that error; infinite if there is none."""
    if not candidates:
        return (), inf
    found = errors(candidates)
    best = int(found.argmin())
    return candidates[best], float(found[best])
