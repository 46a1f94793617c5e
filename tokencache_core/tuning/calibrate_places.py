"""Calibration: where a model's I-steps should lie and of what order its forecasts should be, from one full run and a
few cached ones.

The record of the full run proposes several places for every number of I-steps (tuning/place_proposals.py). For some
numbers of them the proposals are tried in real cached runs from the same noise (tuning/place_trials.py): simulated
places and even gaps with each order of forecasts, then the others with the order that won. The closest run decides,
unless it may be so by chance: for that number, and, where one way of proposing won at all numbers that were tried, for
the others too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..engine.stopwatch import timed
from ..runs.run import Run
from ..schedules.calibration import Trial
from ..schedules.known_models import MOST_STEPS
from ..schedules.noise_places import even_in_steps
from ..schedules.place_climb import Places
from ..schedules.run_record import RunRecord, RunRecorder
from ..settings import CacheSettings
from .place_proposals import EVEN, KNOWN, SIMULATED, listed_counts, orders_beside, simulated_order, tried_counts, ways
from .place_trials import PlaceTrials

BUDGET = 3.0  # computation that may be spent on cached runs, in full runs
LEAST_STEPS = 3  # smallest number of steps of a run in which places can differ


@dataclass(frozen=True)
class FoundPlaces:
    """The result of a calibration.

    order: of the forecasts.
    places: the I-steps, by their number.
    trials: what was tried in cached runs.
    full_seconds, search_seconds, cached_seconds: of the full run, of the simulation and of the cached runs.
    """

    order: int
    places: Mapping[int, Places]
    trials: tuple[Trial, ...]
    full_seconds: float
    search_seconds: float
    cached_seconds: float

    def cost(self) -> str:
        """The cost of the calibration, in words."""
        more = (self.search_seconds + self.cached_seconds) / self.full_seconds
        return (
            f"a full run of {self.full_seconds:.1f} s, simulation {self.search_seconds:.1f} s, {len(self.trials)} "
            f"cached runs {self.cached_seconds:.1f} s: {more:.1f} full runs' time beside the first"
        )


def calibrate_places(
    run: Run,
    settings: CacheSettings,
    *,
    orders: Sequence[int] = (),
    counts: Sequence[int] = (),
    budget: float = BUDGET,
    without: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> tuple[RunRecord, FoundPlaces]:
    """Calibrate a model on one run: sample it in full, and cached as long as the budget lasts.

    ValueError for a run of fewer than LEAST_STEPS steps, or more than MOST_STEPS.

    settings: of the cached runs.
    orders: of forecasts to choose from, the usual one first; none: the settings' own, and others that may be better.
    counts: numbers of I-steps for which real runs decide, the most important first; none: a few shares of the steps.
    budget: the computation that may be spent on cached runs, in full runs.
    without: as in `known_models`.
    log: takes lines for the user.
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
        full, full_seconds = timed(lambda: run.sample(recorder.around))
    record = recorder.record(run.noise_time)
    counts = counts or tried_counts(steps)
    orders = orders or orders_beside(settings.order)
    trials = PlaceTrials(run, settings, full, log)
    started = time.perf_counter()
    by_order = {order: ways(record, replace(settings, order=order), run.euler, run.fading, without) for order in orders}
    order = orders[0]
    if len(orders) > 1 and counts[0] in range(2, steps):
        simulated = {order: found[SIMULATED](counts[0]) for order, found in by_order.items()}
        if trials.affords(counts[0], budget, 2 * len(orders)):
            even = even_in_steps(counts[0], steps)
            order = trials.best_order({order: (places, even) for order, places in simulated.items()})
        else:
            order = simulated_order(record, settings, run.euler, simulated)
    found = by_order[order]
    winners: dict[int, str] = {}
    places: dict[int, Places] = {}
    for number, count in enumerate(counts):
        share = (budget - trials.spent) / (len(counts) - number)
        if count in range(2, steps) and trials.affords(count, share):
            winners[count], places[count] = trials.best(
                order, {name: way(count) for name, way in found.items()}, share, usual=(SIMULATED, KNOWN, EVEN)
            )
    # a way that won at one number alone may have won by chance
    agreed = set(winners.values()) if len(winners) > 1 else set()
    others = found[agreed.pop() if len(agreed) == 1 else SIMULATED]
    for count in listed_counts(steps):
        places.setdefault(count, others(count))
    seconds = time.perf_counter() - started
    return record, FoundPlaces(order, places, trials.trials, full_seconds, seconds - trials.seconds, trials.seconds)
