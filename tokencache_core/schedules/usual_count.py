"""The default number of I-steps: about a third of a run's steps, and more if there are few steps.

A run of as many whole steps on the same schedule costs the same. A cache is worthwhile only if it comes closer to the
full run than that, which can be simulated for every schedule with known models: a run of fewer whole steps holds each
direction for longer, and its error is that of a forecast of order 0. If P-steps gain less than `LEAST_GAIN`, more
I-steps are taken; if no number of them is enough, as with eight DDIM steps, every step is an I-step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .known_models import MOST_STEPS, known_places, known_record, known_simulator
from .run_record import noise_of
from .run_simulator import decibels, faded

SHARE, MORE = 0.32, 2  # the least number of I-steps is SHARE times the steps, plus MORE
# dB that P-steps must gain in simulation, which is more optimistic than real runs are (docs/findings/places.md)
LEAST_GAIN = 7.0


def usual_count(taus: Sequence[float]) -> int:
    """The default number of I-steps of a run at the noise times `taus` (falling).

    On most schedules 18 of 50, 8 of 20 and all of 8.
    """
    steps = len(taus)
    least = min(steps, round(SHARE * steps + MORE))
    if steps > MOST_STEPS:
        return least
    return next((count for count in range(least, steps) if gain_db(count, tuple(taus)) >= LEAST_GAIN), steps)


@lru_cache(maxsize=256)
def gain_db(count: int, taus: tuple[float, ...]) -> float:
    """The gain in dB of `count` I-steps at their default places over a run of `count` whole steps.

    Both are compared with a whole run at `taus`, simulated with known models.
    """
    return whole_steps_error_db(count, taus) - known_simulator(taus).error_db(known_places(count, taus))


def whole_steps_error_db(count: int, taus: Sequence[float]) -> float:
    """The error in dB of a run of only `count` whole steps along the curve of `taus`, as in `RunSimulator.errors_db`.

    Each of the two runs holds the direction of its last step until its next one.
    """
    steps = len(taus)
    fewer = [float(np.interp(step * steps / count, range(steps + 1), [*taus, 0.0])) for step in range(count)]
    times = sorted({*taus, *fewer}, reverse=True)
    noise = np.array([*(noise_of(time) for time in times), 0.0])
    errors = np.zeros((count, len(times)))  # of each of the fewer steps
    for move, time in zip(faded(np.diff(noise), noise[:-1]), times):
        held = max(step for step in range(count) if fewer[step] >= time)
        errors[held, times.index(fewer[held])] += move
        errors[held, times.index(min(each for each in taus if each >= time))] -= move
    products, total = known_record(times).products, errors.sum(axis=0)
    return float(decibels(products @ total @ total, np.einsum("sj,bjk,sk->b", errors, products, errors)).mean())
