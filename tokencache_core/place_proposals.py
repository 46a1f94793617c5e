"""Places of I-steps that the record of one whole run proposes, by how many they are.

What is left at a run's end of an error made at one sigma differs from model to model (run_simulator.py), so each way of fading proposes
places of its own; real runs may decide between them (calibrate_places.py). A record is of a few samples: known models' are asked as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .known_models import known_places, known_record
from .place_climb import Places, best_places
from .run_record import RunRecord
from .run_simulator import DAMPINGS, RunSimulator
from .settings import CacheSettings

SIMULATED = "simulated"         # the name of the family that is taken where no real run decides
KNOWN = "as known models have them"
FADINGS = (3.0, 10.0, 0.7)      # dampings of which each proposes places of its own
MOST_COUNTS = 24
Family = Mapping[int, Places]   # by how many they are


def proposals(record: RunRecord, settings: CacheSettings, corrected: bool, wanted: tuple[int, ...] = ()) -> dict[str, Family]:
    """From the name of each way to place I-steps to its places, by how many they are: MOST_COUNTS numbers of them, and those `wanted`.

    corrected: by the settings' corrector.
    """
    counts = _counts(record, wanted)
    found = {SIMULATED: simulated_places(record, settings, corrected, wanted), KNOWN: {count: known_places(count, record.taus) for count in counts}}
    return found | {f"errors fading above sigma {damping:g}": _family(simulator_of(record, settings, corrected, damping), counts) for damping in FADINGS}


def simulated_places(record: RunRecord, settings: CacheSettings, corrected: bool, wanted: tuple[int, ...] = ()) -> Family:
    """Those that simulation alone proposes: for the run and known models together, with errors fading in the mean of all ways."""
    return _family(simulator_beside_known(record, settings, corrected), _counts(record, wanted))


def simulator_beside_known(record: RunRecord, settings: CacheSettings, corrected: bool) -> RunSimulator:
    """What `simulated_places` likes places by."""
    return simulator_of(_with_known(record), settings, corrected, *DAMPINGS)


def simulator_of(record: RunRecord, settings: CacheSettings, corrected: bool, *dampings: float) -> RunSimulator:
    corrector = settings.corrector if corrected else 0.0
    return RunSimulator(record, order=settings.order, reach=settings.reach, corrector=corrector, dampings=dampings)


def _with_known(record: RunRecord) -> RunRecord:
    """About as many samples of known models beside the record's own."""
    known, own = known_record(record.taus).products, record.products
    return replace(record, products=np.concatenate([own, known[:: max(1, len(known) // max(2, len(own)))]]))


def _counts(record: RunRecord, wanted: tuple[int, ...]) -> list[int]:
    return sorted({1 + (record.steps - 2) * part // (MOST_COUNTS - 1) for part in range(MOST_COUNTS)} | set(wanted))


def _family(simulator: RunSimulator, counts: list[int]) -> Family:
    found, record = {1: (0,)}, simulator.record
    for before, count in zip(counts, counts[1:]):
        starts = [_more(found[before], count, record.steps)]
        found[count] = best_places(count, record.taus, simulator.errors_db, starts=starts)
    return found


def _more(places: Places, count: int, steps: int) -> Places:
    """`count` I-steps, others among them in the middle of the longest gaps."""
    while len(places) < count:
        ends = (*places[1:], steps)
        longest = max(range(len(places)), key=lambda index: ends[index] - places[index])
        places = tuple(sorted((*places, (places[longest] + ends[longest]) // 2)))
    return places
