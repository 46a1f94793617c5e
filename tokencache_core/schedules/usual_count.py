"""The default number of I-steps: about a third of a run's steps, and more if there are few steps.

A run of as many full steps on the same schedule costs the same. A cache is worthwhile only if it comes closer to the
full run than that, which can be simulated for every schedule with known models: a run of fewer full steps holds each
direction for longer, and its error is that of a forecast of order 0. If P-steps gain less than `LEAST_GAIN`, more
I-steps are taken; if even `MOST` of the steps are not enough, as with eight DDIM steps, every step is an I-step. The
number depends on the schedule alone: whatever the model, errors fade as on DDPM models in both simulations, and no
network answers to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .fading_errors import decibels, faded
from .known_models import MOST_STEPS, KnownModel, known_models, known_places, known_simulators
from .run_record import noise_of
from .run_simulator import USUAL_FADING

SHARE, MORE = 0.32, 2  # the least number of I-steps is SHARE times the steps, plus MORE
MOST = 0.7  # share of the steps, above which I-steps leave too little to be saved
LEAST_GAIN = 1.5  # dB that P-steps must gain in simulation (docs/findings/places.md)


def usual_count(taus: Sequence[float]) -> int:
    """The default number of I-steps of a run at the noise times `taus` (falling).

    On most schedules 18 of 50, 8 of 20 and all of 8.
    """
    steps = len(taus)
    least = min(steps, round(SHARE * steps + MORE))
    if steps > MOST_STEPS:
        return least
    return next(
        (count for count in range(least, int(MOST * steps) + 1) if gain_db(count, tuple(taus)) >= LEAST_GAIN), steps
    )


@lru_cache(maxsize=256)
def gain_db(count: int, taus: tuple[float, ...]) -> float:
    """The gain in dB of `count` I-steps at their default places over a run of `count` full steps.

    Both are compared with a full run at `taus`, simulated with known models, on which errors fade.
    """
    places = [known_places(count, taus)]
    cached = np.mean([simulator.fading.errors_db(places) for simulator in known_simulators(taus)])
    return whole_steps_error_db(count, taus) - float(cached)


def whole_steps_error_db(count: int, taus: Sequence[float]) -> float:
    """The error in dB of a run of only `count` full steps along the curve of `taus`, as in `FadingErrors`."""
    runs = _TwoRuns.of(count, taus)
    return float(np.mean([_error_db(model, runs) for model in known_models()]))


@dataclass(frozen=True)
class _TwoRuns:
    """A run of few full steps beside one of many. Each holds the direction of its last step until its next one.

    times: noise times of the steps of both, falling.
    count: number of the few steps.
    step: for each time, the number of the few steps that is under way.
    few, many: for each time, the index in `times` of the direction that the run of few steps holds, and the other.
    """

    times: list[float]
    count: int
    step: list[int]
    few: list[int]
    many: list[int]

    @classmethod
    def of(cls, count: int, taus: Sequence[float]) -> _TwoRuns:
        """`count` full steps, spread evenly over the curve of `taus`, and the full steps at `taus`."""
        steps = len(taus)
        fewer = [float(np.interp(step * steps / count, range(steps + 1), [*taus, 0.0])) for step in range(count)]
        times = sorted({*taus, *fewer}, reverse=True)
        under_way = [max(step for step in range(count) if fewer[step] >= time) for time in times]
        return cls(
            times,
            count,
            under_way,
            [times.index(fewer[step]) for step in under_way],
            [times.index(min(tau for tau in taus if tau >= time)) for time in times],
        )


def _error_db(model: KnownModel, runs: _TwoRuns) -> float:
    """The error in dB of the run of few steps, for one known model."""
    noise = np.array([noise_of(time) for time in runs.times])
    moves = faded(model.record(runs.times).moves, noise, USUAL_FADING.dampings)  # (dampings, times)
    errors = np.zeros((runs.count, *moves.shape))  # of each of the few steps
    for move, step, few, many in zip(np.swapaxes(moves, 0, 1), runs.step, runs.few, runs.many):
        errors[step, :, few] += move
        errors[step, :, many] -= move
    made = np.einsum("sdj,bjc->bsdc", errors, model.directions_at(runs.times))
    return float(decibels((made.sum(axis=1) ** 2).sum(axis=-1), (made**2).sum(axis=(1, 3))).mean())
