"""Trials of proposed forecast orders and places in real cached runs, as many as the budget allows.

Small moves of the best places are not tried: what they gain on a few samples is lost on others
(docs/findings/places.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from ..engine.stopwatch import timed
from ..runs.cached_sampling import sample_cached
from ..runs.run import Run
from ..schedules.calibration import Trial
from ..schedules.place_climb import Places
from ..schedules.schedule import ExplicitSchedule
from ..settings import CacheSettings
from .probe import Likeness

P_STEP = 0.05  # approximate cost of a P-step, as a share of a full step
CHANCE = 1.0  # dB by which one of several runs may be the closest by chance, on a few samples


class PlaceTrials:
    """The trials on one run.

    full: (B, ...), the run's samples without the cache.
    log: takes a line for the user after each trial.
    """

    def __init__(self, run: Run, settings: CacheSettings, full: Tensor, log: Callable[[str], None]) -> None:
        self.run, self.settings, self.full, self.log = run, settings, full, log
        self.steps = len(run.sigmas) - 1
        self.decided: dict[tuple[int, Places], float] = {}  # PSNR in dB, by the forecasts' order and the places
        self.spent = 0.0  # computation, in full runs
        self.seconds = 0.0

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(Trial(order, places, db) for (order, places), db in self.decided.items())

    def affords(self, count: int, budget: float, runs: int = 2) -> bool:
        """Whether `budget` (full runs) is enough for `runs` cached runs with `count` I-steps."""
        return runs * self._cost(count) <= budget

    def best_order(self, proposed: Mapping[int, Sequence[Places]]) -> int:
        """The order of the run that comes closest to the full one.

        proposed: places by order, the usual order first, which others must beat by more than CHANCE.
        """
        usual, *_ = proposed

        def closest(order: int) -> float:
            for places in proposed[order]:
                self._try(order, places)
            return max(self.decided[order, places] for places in proposed[order])

        return max(proposed, key=lambda order: closest(order) - CHANCE * (order != usual))

    def best(
        self, order: int, proposed: Mapping[str, Places], budget: float, usual: Collection[str] = ()
    ) -> tuple[str, Places]:
        """The name and the places of the closest run, out of as many as `budget` allows, tried in their order.

        proposed: places by name.
        usual: names that the others must beat by more than CHANCE.
        """
        end = self.spent + budget
        tried = {name: places for name, places in proposed.items() if self._try(order, places, end)}
        winner = max(tried, key=lambda name: self.decided[order, tried[name]] - CHANCE * (name not in usual))
        return winner, tried[winner]

    def _cost(self, count: int) -> float:
        return (count + P_STEP * (self.steps - count)) / self.steps

    def _try(self, order: int, places: Places, end: float = math.inf) -> bool:
        """Try places, unless they were tried before; False if `spent` would then exceed `end`."""
        cost = self._cost(len(places))
        if (order, places) in self.decided:
            return True
        if self.spent + cost > end + 1e-9:
            return False
        settings = replace(self.settings, order=order)
        (samples, _), seconds = timed(lambda: sample_cached(self.run, settings, ExplicitSchedule(places)))
        db = float(Likeness.of(samples, self.full, is_pixels=False).db.mean())
        self.decided[order, places] = db
        self.spent, self.seconds = self.spent + cost, self.seconds + seconds
        self.log(f"order {order}, I-steps {', '.join(map(str, places))}: {db:.1f} dB")
        return True
