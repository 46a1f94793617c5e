"""Calibration: where a model's I-steps should lie, from one full run and a few cached ones.

The record of the full run proposes several places for every number of I-steps (tuning/place_proposals.py). For some
numbers of them the proposals are tried in real cached runs from the same noise (tuning/place_trials.py). The likest run
decides, unless it may be so by chance: for that number, and, where one way of proposing won at all numbers that were
tried, for the others too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..engine.stopwatch import timed
from ..runs.run import Run
from ..schedules.known_models import MOST_STEPS
from ..schedules.place_climb import Places
from ..schedules.run_record import RunRecord, RunRecorder
from ..settings import CacheSettings
from .place_proposals import EVEN, KNOWN, SIMULATED, listed_counts, ways
from .place_trials import PlaceTrials

BUDGET = 3.0  # full runs' computations that may be spent on cached ones
SHARES = (1 / 2, 1 / 3)  # of the steps that are I-steps, where nobody says how many
LEAST_STEPS = 3  # of a run in which places can differ


@dataclass(frozen=True)
class FoundPlaces:
    """places: by how many they are. decided: PSNR in dB to the full run of those that were tried.

    whole_seconds, search_seconds, cached_seconds: what the full run, the simulation and the cached runs took.
    """

    places: Mapping[int, Places]
    decided: Mapping[Places, float]
    whole_seconds: float
    search_seconds: float
    cached_seconds: float

    def cost(self) -> str:
        """In words."""
        more = (self.search_seconds + self.cached_seconds) / self.whole_seconds
        return (
            f"a full run of {self.whole_seconds:.1f} s, simulation {self.search_seconds:.1f} s, {len(self.decided)} "
            f"cached runs {self.cached_seconds:.1f} s: "
            f"{more:.1f} full runs' time beside the first"
        )


def calibrate_places(
    run: Run,
    settings: CacheSettings,
    *,
    counts: Sequence[int] = (),
    budget: float = BUDGET,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[RunRecord, FoundPlaces]:
    """Sample `run` in full, and cached as long as the budget lasts.

    counts: numbers of I-steps for which real runs decide, the first ones
    first; none: SHARES of the steps. ValueError for a run of fewer than LEAST_STEPS steps, or more
    than MOST_STEPS.
    """
    steps = len(run.sigmas) - 1
    if steps < LEAST_STEPS:
        raise ValueError(
            f"a run of {steps} steps has no places to choose: calibrate one of {LEAST_STEPS} steps or more"
        )
    if steps > MOST_STEPS:
        raise ValueError(
            f"a run of {steps} steps has too many places to try: calibrate one of {MOST_STEPS} or fewer, which serves "
            "all numbers of steps"
        )
    recorder = RunRecorder(run.sigmas.tolist(), run.input_scale)
    with torch.no_grad():
        full, whole_seconds = timed(lambda: run.sample(recorder.around))
    record = recorder.record(run.noise_time)
    counts = counts or tuple(dict.fromkeys(min(steps - 1, max(2, round(share * steps))) for share in SHARES))
    trials = PlaceTrials(run, settings, full, log)
    started = time.perf_counter()
    found = ways(record, settings, run.euler)
    winners: dict[int, str] = {}
    places: dict[int, Places] = {}
    for number, count in enumerate(counts):
        share = (budget - trials.spent) / (len(counts) - number)
        if count in range(2, steps) and trials.affords(count, share):
            winners[count], places[count] = trials.best(
                {name: way(count) for name, way in found.items()}, share, usual=(SIMULATED, KNOWN, EVEN)
            )
    agreed = set(winners.values())  # a way that won at one number alone may have won by chance
    others = found[agreed.pop() if len(agreed) == 1 else SIMULATED]
    for count in listed_counts(steps):
        places.setdefault(count, others(count))
    seconds = time.perf_counter() - started
    return record, FoundPlaces(places, trials.decided, whole_seconds, seconds - trials.seconds, trials.seconds)
