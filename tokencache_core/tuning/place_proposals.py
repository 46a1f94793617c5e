"""Ways to place the I-steps of a model's runs, once one full run of it is recorded.

What is left at a run's end of an error made at one sigma differs from model to model (schedules/run_simulator.py). So
each way of fading proposes places of its own, the nearer to the run's end the sooner errors fade, and real runs decide
between them (tuning/calibrate_places.py). A record is of a few samples: known models' are asked as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from ..schedules.known_models import known_places, known_records
from ..schedules.noise_places import even_in_steps
from ..schedules.place_climb import Errors, Places, best_places
from ..schedules.run_record import RunRecord
from ..schedules.run_simulator import DAMPING, RunSimulator
from ..settings import CacheSettings

SIMULATED, KNOWN, EVEN = "simulated", "known models'", "even in the step's number"  # the first where no run decides
FADINGS = (2.0, 6.0, 1.0)  # dampings of which each proposes places, the most promising first
FEW_STEPS, MOST_COUNTS = (
    30,
    12,
)  # up to so many steps a calibration lists every number of I-steps, beyond them so many; others lie between them
Way = Callable[[int], Places]  # from a number of I-steps to their places


def ways(record: RunRecord, settings: CacheSettings, corrected: bool) -> dict[str, Way]:
    """By name, the most promising first. corrected: by the settings' corrector."""
    asked = partial(errors_beside_known, record, settings, corrected)
    found: dict[str, Way] = {
        SIMULATED: _searching(record.taus, asked()),
        KNOWN: partial(known_places, taus=record.taus),
        EVEN: partial(even_in_steps, steps=record.steps),
    }
    return found | {
        f"errors fading above sigma {damping:g}": _searching(record.taus, asked(damping=damping)) for damping in FADINGS
    }


def simulated_places(record: RunRecord, settings: CacheSettings, corrected: bool) -> dict[int, Places]:
    """Those that simulation alone proposes, by how many they are: for the run and known models together, with errors
    fading as they usually do.
    """
    way = _searching(record.taus, errors_beside_known(record, settings, corrected))
    return {count: way(count) for count in listed_counts(record.steps)}


def listed_counts(steps: int) -> list[int]:
    """From 1 to all but one of the steps: all of them, or MOST_COUNTS evenly."""
    if steps <= FEW_STEPS:
        return list(range(1, steps))
    return sorted({1 + (steps - 2) * part // (MOST_COUNTS - 1) for part in range(MOST_COUNTS)})


def errors_beside_known(
    record: RunRecord, settings: CacheSettings, corrected: bool, damping: float = DAMPING
) -> Errors:
    """Measures places by simulated runs of the record's samples and of known models, half and half.

    damping: as in `RunSimulator`.
    """
    corrector = settings.corrector if corrected else 0.0
    own, *known = (
        RunSimulator(each, order=settings.order, reach=settings.reach, corrector=corrector, damping=damping)
        for each in (record, *known_records(record.taus))
    )

    def measured(candidates: Sequence[Places]) -> np.ndarray:
        return (own.errors_db(candidates) + np.mean([each.errors_db(candidates) for each in known], axis=0)) / 2

    return measured


def _searching(taus: Sequence[float], errors: Errors) -> Way:
    return cache(lambda count: best_places(count, taus, errors))
