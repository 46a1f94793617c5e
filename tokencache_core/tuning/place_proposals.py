"""Ways to place the I-steps of a model's runs, once one whole run of it is recorded.

What is left at a run's end of an error made at one sigma differs from model to model (schedules/run_simulator.py). So
each way of fading proposes places of its own, the nearer to the run's end the sooner errors fade, and real runs decide
between them (tuning/calibrate_places.py). A record is of a few samples: known models' are asked as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np

from ..schedules.known_models import known_places, known_record
from ..schedules.noise_places import even_in_steps
from ..schedules.place_climb import Places, best_places
from ..schedules.run_record import RunRecord
from ..schedules.run_simulator import RunSimulator
from ..settings import CacheSettings

SIMULATED, KNOWN, EVEN = "simulated", "known models'", "even in the step's number"  # the first where no run decides
FADINGS = (2.0, 1.0, 4.0)  # dampings of which each proposes places, the most promising first
APART = 0.5  # their `together`: places move evenly from one fading to the next
FEW_STEPS, MOST_COUNTS = (
    30,
    12,
)  # up to so many steps a calibration lists every number of I-steps, beyond them so many; others lie between them
Way = Callable[[int], Places]  # from a number of I-steps to their places


def ways(record: RunRecord, settings: CacheSettings, corrected: bool) -> dict[str, Way]:
    """By name, the most promising first. corrected: by the settings' corrector."""
    asked = partial(simulator_beside_known, record, settings, corrected)
    found: dict[str, Way] = {
        SIMULATED: _searching(asked()),
        KNOWN: partial(known_places, taus=record.taus),
        EVEN: partial(even_in_steps, steps=record.steps),
    }
    return found | {
        f"errors fading above sigma {damping:g}": _searching(asked(damping=damping, together=APART))
        for damping in FADINGS
    }


def simulated_places(record: RunRecord, settings: CacheSettings, corrected: bool) -> dict[int, Places]:
    """Those that simulation alone proposes, by how many they are: for the run and known models together, with errors
    fading as they usually do.
    """
    way = _searching(simulator_beside_known(record, settings, corrected))
    return {count: way(count) for count in listed_counts(record.steps)}


def listed_counts(steps: int) -> list[int]:
    """From 1 to all but one of the steps: all of them, or MOST_COUNTS evenly."""
    if steps <= FEW_STEPS:
        return list(range(1, steps))
    return sorted({1 + (steps - 2) * part // (MOST_COUNTS - 1) for part in range(MOST_COUNTS)})


def simulator_beside_known(
    record: RunRecord, settings: CacheSettings, corrected: bool, **errors: float
) -> RunSimulator:
    """Of the record's samples, and of about as many of known models. errors: `damping` and `together`, if unusual."""
    known, own = known_record(record.taus).products, record.products
    beside = replace(record, products=np.concatenate([own, known[:: max(1, len(known) // max(2, len(own)))]]))
    corrector = settings.corrector if corrected else 0.0
    return RunSimulator(beside, order=settings.order, reach=settings.reach, corrector=corrector, **errors)


def _searching(simulator: RunSimulator) -> Way:
    return cache(lambda count: best_places(count, simulator.record.taus, simulator.errors_db))
