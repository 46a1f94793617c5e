"""How many I-steps a run has where nobody says: about a third of its steps, and more where there are few.

As many whole steps of the same schedule cost the same. A cache is worth having where it comes nearer to the run than these do, which known models
tell for every schedule: a run of fewer whole steps holds each direction for longer, and errs as a forecast of order 0 does. Where P-steps do not gain
`LEAST_GAIN`, there are more I-steps; where no number of them does, as on eight DDIM steps, every step is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .known_models import MOST_STEPS, known_places, known_record, known_simulator
from .run_record import noise_of
from .run_simulator import decibels, faded

SHARE, MORE = 0.32, 2       # of the steps, and beside them
LEAST_GAIN = 7.0            # dB by which P-steps must be nearer in simulation, which promises more than real runs keep (docs/experiments.md)


def usual_count(taus: Sequence[float]) -> int:
    """Of a run at the noise times `taus` (falling): 18 of 50, 8 of 20, all of 8 on most schedules."""
    steps = len(taus)
    least = min(steps, round(SHARE * steps + MORE))
    if steps > MOST_STEPS:
        return least
    return next((count for count in range(least, steps) if gain_db(count, tuple(taus)) >= LEAST_GAIN), steps)


@lru_cache(maxsize=256)
def gain_db(count: int, taus: tuple[float, ...]) -> float:
    """By how much `count` I-steps at their usual places come nearer to a run at `taus` than `count` whole steps, simulated on known models."""
    return whole_steps_error_db(count, taus) - known_simulator(taus).error_db(known_places(count, taus))


def whole_steps_error_db(count: int, taus: Sequence[float]) -> float:
    """How far `count` whole steps along the curve of `taus` end from all of them: in the measure of `RunSimulator.errors_db`.

    Between two noises that either run steps to, each holds the direction of its last step.
    """
    steps = len(taus)
    fewer = [float(np.interp(step * steps / count, range(steps + 1), [*taus, 0.0])) for step in range(count)]
    times = sorted({*taus, *fewer}, reverse=True)
    noise = np.array([*(noise_of(time) for time in times), 0.0])
    strayed = np.zeros((count, len(times)))     # of each of the fewer steps
    for move, time in zip(faded(np.diff(noise), noise[:-1]), times):
        held = max(step for step in range(count) if fewer[step] >= time)
        strayed[held, times.index(fewer[held])] += move
        strayed[held, times.index(min(each for each in taus if each >= time))] -= move
    products, total = known_record(times).products, strayed.sum(axis=0)
    return float(decibels(products @ total @ total, np.einsum("sj,bjk,sk->b", strayed, products, strayed)).mean())
