"""Places that are tried in real cached runs, as many of those proposed as there is computation for.

No small moves of the likest are tried: what they gain on a few samples is lost on others (docs/findings/places.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from ..engine.stopwatch import timed
from ..runs.cached_sampling import sample_cached
from ..runs.run import Run
from ..schedules.place_climb import Places
from ..schedules.schedule import ExplicitSchedule
from ..settings import CacheSettings
from .probe import Likeness

P_STEP = 0.05  # of a full step, about
CHANCE = 1.0  # dB by which the likest of several may be so by chance, on a few samples


class PlaceTrials:
    """Of one run, whose full run's samples are `full` (B, ...). log: takes a line for the user, after each."""

    def __init__(self, run: Run, settings: CacheSettings, full: Tensor, log: Callable[[str], None]) -> None:
        self.run, self.settings, self.full, self.log = run, settings, full, log
        self.steps = len(run.sigmas) - 1
        self.decided: dict[Places, float] = {}  # PSNR in dB of each that was tried
        self.spent = 0.0  # computation, in full runs
        self.seconds = 0.0

    def affords(self, count: int, budget: float) -> bool:
        """Whether `budget` (full runs) is enough to compare two."""
        return 2 * self._cost(count) <= budget

    def best(self, proposed: Mapping[str, Places], budget: float, usual: Collection[str] = ()) -> tuple[str, Places]:
        """The likest of those that `budget` lets try, in their order, and its name; others than the `usual` ones must
        be so by more than CHANCE.
        """
        end = self.spent + budget
        tried = {name: places for name, places in proposed.items() if self._try(places, end)}
        winner = max(tried, key=lambda name: self.decided[tried[name]] - CHANCE * (name not in usual))
        return winner, tried[winner]

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
