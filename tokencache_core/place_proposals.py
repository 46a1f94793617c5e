"""Places of I-steps that the record of one whole run proposes, for every number of them.

What is left at a run's end of an error made at one sigma differs from model to model (run_simulator.py), so each way of fading proposes
places of its own; real runs may decide between them (calibrate_places.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .noise_places import even_in_noise
from .place_climb import Places, climbed
from .run_record import RunRecord
from .run_simulator import DAMPINGS, RunSimulator
from .settings import CacheSettings

SIMULATED = "simulated"         # the name of the family that is taken where no real run decides
UNMEASURED = "even in noise time"
Family = Mapping[int, Places]   # by how many they are


def proposals(record: RunRecord, settings: CacheSettings, corrected: bool) -> dict[str, Family]:
    """From the name of each way to place I-steps to its places, for 1 to all but one of the steps. corrected: by the settings' corrector."""
    found = {SIMULATED: simulated_places(record, settings, corrected)}
    found |= {f"errors fading above sigma {damping:g}": simulated_places(record, settings, corrected, (damping,)) for damping in DAMPINGS}
    found[UNMEASURED] = {count: even_in_noise(count, record.taus) for count in range(1, record.steps)}
    return found


def simulated_places(record: RunRecord, settings: CacheSettings, corrected: bool, dampings: Sequence[float] = DAMPINGS) -> Family:
    """The places that simulation alone finds, with errors fading in the mean of these ways."""
    corrector = settings.corrector if corrected else 0.0
    return _climb(RunSimulator(record, order=settings.order, reach=settings.reach, corrector=corrector, dampings=dampings), record)


def _climb(simulator: RunSimulator, record: RunRecord) -> Family:
    """The best that is found from even places, and from the best of one I-step less with another beside it."""
    found: dict[int, Places] = {1: (0,)}
    for count in range(2, record.steps):
        starts = {even_in_noise(count, record.taus), _one_more(found[count - 1], record.steps)}
        found[count] = min((climbed(start, record.steps, simulator.errors_db) for start in sorted(starts)), key=lambda each: each[1])[0]
    return found


def _one_more(places: Places, steps: int) -> Places:
    """Another I-step in the middle of the longest gap."""
    ends = (*places[1:], steps)
    longest = max(range(len(places)), key=lambda index: ends[index] - places[index])
    return tuple(sorted((*places, (places[longest] + ends[longest]) // 2)))
