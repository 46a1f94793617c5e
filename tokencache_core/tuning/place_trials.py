"""Places that are tried in real cached runs: what was proposed first, then what simulation likes best of all that lies
beside the likest so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ..engine.stopwatch import timed
from ..runs.cached_sampling import sample_cached
from ..runs.run import Run
from ..schedules.place_climb import Places, neighbours
from ..schedules.run_simulator import RunSimulator
from ..schedules.schedule import ExplicitSchedule
from ..settings import CacheSettings
from .probe import Likeness

P_STEP = 0.05  # of a whole step, about


class PlaceTrials:
    """Of one run, whose whole samples are `full` (B, ...). log: takes a line for the user, after each."""

    def __init__(self, run: Run, settings: CacheSettings, full: Tensor, log: Callable[[str], None]) -> None:
        self.run, self.settings, self.full, self.log = run, settings, full, log
        self.steps = len(run.sigmas) - 1
        self.decided: dict[Places, float] = {}  # PSNR in dB of each that was tried
        self.spent = 0.0  # computation, in whole runs
        self.seconds = 0.0

    def affords(self, count: int, budget: float) -> bool:
        """Whether `budget` (whole runs) is enough to compare two."""
        return 2 * self._cost(count) <= budget

    def best(self, proposed: Mapping[str, Places], simulator: RunSimulator, budget: float) -> tuple[str, Places]:
        """The name of the likest proposal, and the likest places of all that `budget` lets try: the proposals in their
        order, then others.
        """
        end = self.spent + budget
        tried = {name: places for name, places in proposed.items() if self._try(places, end)}
        winner = max(tried, key=lambda name: self.decided[tried[name]])
        best = tried[winner]
        while beside := [places for places in neighbours(best, self.steps) if places not in self.decided]:
            places = beside[int(simulator.errors_db(beside).argmin())]
            if not self._try(places, end):
                break
            best = max(best, places, key=self.decided.__getitem__)
        return winner, best

    def _cost(self, count: int) -> float:
        return (count + P_STEP * (self.steps - count)) / self.steps

    def _try(self, places: Places, end: float) -> bool:
        """Whether there was computation left for it."""
        cost = self._cost(len(places))
        if places in self.decided:
            return True
        if self.spent + cost > end + 1e-9:
            return False
        (samples, _), seconds = timed(lambda: sample_cached(self.run, self.settings, ExplicitSchedule(places)))
        self.decided[places] = float(Likeness.of(samples, self.full, is_pixels=False).db.mean())
        self.spent, self.seconds = self.spent + cost, self.seconds + seconds
        self.log(f"I-steps {', '.join(map(str, places))}: {self.decided[places]:.1f} dB")
        return True
