"""Ways to place the I-steps of a model's runs, and to choose the order of its forecasts, once a full run is recorded.

What is left at a run's end of an error made at one sigma differs from model to model (schedules/run_simulator.py).
Simulation proposes places that are good however errors fade. Each way of fading also proposes places of its own; real
runs decide between them (tuning/calibrate_places.py). Since a record has only a few samples, known models' records are
simulated beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from math import inf

import numpy as np

from ..schedules.known_models import known_places, known_records
from ..schedules.noise_places import even_in_steps
from ..schedules.place_climb import Errors, Places, best_places
from ..schedules.run_record import RunRecord
from ..schedules.run_simulator import USUAL_FADING, Fading, RunSimulator
from ..settings import CacheSettings

SIMULATED, KNOWN, EVEN, DENSE = "simulated", "known models'", "even in the step's number", "another I-step first"
FADINGS = {  # each of which proposes places of its own, the most promising first
    "errors fading above sigma 4": Fading((4.0,), 0.0),
    "errors that never fade": Fading((inf,), 0.0),
    "errors that are answered": Fading((inf,), 1.0),
}
SHARES = (1 / 3, 1 / 2)  # of the steps that are I-steps, if no number is given; the order is decided at the first
ORDERS = (1, 2)  # of forecasts, which serve some models and schedules and not others (docs/findings/places.md)
FEW_STEPS = 30  # largest number of steps of a run whose calibration lists every number of I-steps
USUAL_SHARES = (1 / 6, 1 / 2)  # of the steps: a longer run's calibration lists every number of I-steps between them,
EVERY = 4  # and of the others every fourth
Way = Callable[[int], Places]  # from a number of I-steps to their places


def ways(
    record: RunRecord, settings: CacheSettings, corrected: bool, fading: Fading = USUAL_FADING, without: str = ""
) -> dict[str, Way]:
    """The ways to place I-steps by name, the most promising first.

    corrected: whether the settings' corrector acts in the runs.
    fading: of the model.
    without: as in `known_models`.
    """
    asked = partial(errors_beside_known, record, settings, corrected, without=without)
    found: dict[str, Way] = {
        SIMULATED: simulated_way(record, settings, corrected, fading, without),
        KNOWN: partial(known_places, taus=record.taus, fading=fading, without=without),
        EVEN: partial(even_in_steps, steps=record.steps),
        DENSE: _searching(record.taus, asked(fading=fading), warmup=2),
    }
    return found | {name: _searching(record.taus, asked(fading=each)) for name, each in FADINGS.items()}


def simulated_way(
    record: RunRecord, settings: CacheSettings, corrected: bool, fading: Fading = USUAL_FADING, without: str = ""
) -> Way:
    """The way that simulation alone proposes, for the run and known models together. Arguments: as in `ways`."""
    return _searching(record.taus, errors_beside_known(record, settings, corrected, fading, without))


def simulated_order(record: RunRecord, settings: CacheSettings, corrected: bool, proposed: Mapping[int, Places]) -> int:
    """The order of forecasts that simulation prefers for this run. proposed: by order, the places that suit it."""

    def error(order: int) -> float:
        return _simulator(record, replace(settings, order=order), corrected).error_db(proposed[order])

    return min(proposed, key=error)


def orders_beside(usual: int) -> tuple[int, ...]:
    """The orders that are worth trying, the usual one first."""
    return tuple(dict.fromkeys((usual, *ORDERS)))


def tried_counts(steps: int) -> tuple[int, ...]:
    """The numbers of I-steps for which real runs decide, if none are given."""
    return tuple(dict.fromkeys(min(steps - 1, max(2, round(share * steps))) for share in SHARES))


def listed_counts(steps: int) -> list[int]:
    """The numbers of I-steps that a calibration lists: all below the number of steps, or in a long run the usual ones
    and a few others. What it does not list has the places of a neighbour, which a pattern of gaps does not survive.
    """
    if steps <= FEW_STEPS:
        return list(range(1, steps))
    least, most = (round(share * steps) for share in USUAL_SHARES)
    return sorted({*range(1, steps, EVERY), *range(least, most + 1), steps - 1})


def errors_beside_known(
    record: RunRecord, settings: CacheSettings, corrected: bool, fading: Fading = USUAL_FADING, without: str = ""
) -> Errors:
    """A function that measures places by simulated runs of the record's samples and of known models, half and half.

    fading: of the model.
    without: as in `known_models`.
    """
    own, *known = (
        _simulator(each, settings, corrected, fading) for each in (record, *known_records(record.taus, without))
    )

    def measured(candidates: Sequence[Places]) -> np.ndarray:
        return (own.errors_db(candidates) + np.mean([each.errors_db(candidates) for each in known], axis=0)) / 2

    return measured


def _simulator(
    record: RunRecord, settings: CacheSettings, corrected: bool, fading: Fading = USUAL_FADING
) -> RunSimulator:
    return RunSimulator(record, settings if corrected else replace(settings, corrector=0.0), fading)


def _searching(taus: Sequence[float], errors: Errors, warmup: int = 1) -> Way:
    return cache(lambda count: best_places(count, taus, errors, min(warmup, count)))
