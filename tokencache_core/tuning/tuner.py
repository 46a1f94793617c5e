"""The tuner: which settings, and how many I-steps, reach a goal on a model; found by a few short runs (the paper's open
question 3).

For a speed-up, every choice (tuning/search_space.py) is given the I-steps that its own step times allow, and the likest
wins. For a floor of likeness, the first choice is bisected to its fewest I-steps; every other is tried once in a little
less time than the best so far takes, and bisected only where it meets the floor. All that with evenly spread I-steps;
what wins is then given better places for them (tuning/place_search.py), or fewer of them at places that meet the floor
as well. In the end it is measured on samples that no choice has seen. The full run that all are compared with is
recorded, so that moves of I-steps are tried in simulation first and on the clock last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

from ..engine.stopwatch import timed
from ..files.fingerprint import Fingerprint
from ..runs.cached_sampling import sample_cached
from ..runs.run import HELD_OUT_SEEDS, Run
from ..sampling.samplers import Denoise
from ..schedules.place_climb import Errors
from ..schedules.placed import carried
from ..schedules.run_record import RunRecord, RunRecorder
from ..schedules.schedule import ExplicitSchedule
from .place_proposals import simulator_beside_known
from .place_search import PlaceSearch
from .preset import Goal, Preset, Result
from .probe import Likeness, Probe, standard_error
from .search_space import Choice

MOST_HELD_OUT = 6  # batches to measure the winner on
FASTER = 0.97  # of the best time so far, for another choice to try
FITS = 0.98  # of the speed-up asked for: what the clock's noise may take


class GoalOutOfReach(ValueError):
    """No choice reaches the goal: says what would."""


class Tuner:
    """start: from a seed to a run of one batch; seeds from HELD_OUT_SEEDS on are for measuring alone. is_pixels:
    samples are pictures.

    log: takes a line for the user. progress: takes the share of `minutes` that is gone; what it raises stops the
    tuning, and `preset` is of what has been found until then.
    """

    def __init__(
        self,
        start: Callable[[int], Run],
        goal: Goal,
        choices: Sequence[Choice],
        *,
        minutes: float,
        is_pixels: bool,
        log: Callable[[str], None] = lambda line: None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> None:
        if goal.kind == "ssim" and not is_pixels:
            raise ValueError("SSIM is of pictures, and this model samples latents: give the floor as PSNR")
        self.start, self.goal, self.choices, self.minutes, self.is_pixels = start, goal, choices, minutes, is_pixels
        self.log, self.progress = log, progress
        self.started = time.monotonic()
        self.run = start(0)
        self.taus = tuple(self.run.noise_time(sigma) for sigma in self.run.sigmas[:-1].tolist())
        self.steps = len(self.taus)
        self.full = torch.empty(0)
        self.full_seconds = 0.0
        self.record: RunRecord | None = None
        self.tried: list[Probe] = []
        self.best: Probe | None = None
        self.measured: Result | None = None

    def tune(self) -> None:
        """Find the best, and measure it; GoalOutOfReach where there is none."""
        sample_cached(self.run, self.choices[0].settings, ExplicitSchedule((0,)))  # the first call is slow
        recorder = RunRecorder(self.run.sigmas.tolist())
        self.full, self.full_seconds = timed(lambda: _plain(self.run, recorder.around))
        self.record = recorder.record(self.run.noise_time) if recorder.complete else None
        self.log(f"full run: {self.full_seconds:.2f} s")
        for choice in self.choices:
            if not self._has_time_for(self.full_seconds / (self.best.speedup() if self.best else 1.5)):
                self.log(f"the time is over before '{choice.name}' could be tried")
                break
            try:
                self._search(choice)
            except torch.OutOfMemoryError:
                self.log(f"{choice.name}: not enough memory")
        if self.best is None:
            raise GoalOutOfReach(self._why())
        self.log(f"best: {self.best.choice.name}, {self.best.count} I-steps; looking for better places for them")
        self._place()
        self.log(
            f"best: {self.best.choice.name}, I-steps {', '.join(map(str, self.best.i_steps))}; measuring it on other "
            "samples"
        )
        self.measured = self._held_out(self.best)

    def preset(self, fingerprint: Fingerprint, notes: Mapping[str, str]) -> Preset | None:
        """Of the best so far, if there is one."""
        best = self.best
        return (
            None
            if best is None
            else Preset(
                settings=best.choice.settings,
                i_steps=best.i_steps,
                taus=self.taus,
                fingerprint=fingerprint,
                goal=self.goal,
                predicted=best.result(),
                measured=self.measured,
                notes={"choice": best.choice.name, **notes},
            )
        )

    def _search(self, choice: Choice) -> None:
        if self.goal.kind == "speed-up":
            self._search_likest(choice)
        elif self.best is None:
            self._search_fewest(choice)
        else:
            self._search_faster(choice)

    def _search_likest(self, choice: Choice) -> None:
        """With as many I-steps as the goal's time allows."""
        count = (
            self.tried[0].as_if(choice).fitting(self.goal.value)
            if self.tried
            else max(1, round(self.steps / self.goal.value))
        )
        for _ in range(3):  # the first count is a guess: by another choice's times, or by none at all
            if count == 0:
                self.log(f"{choice.name}: {self.goal} is out of its reach")
                return
            probe = self._probe(choice, count)
            if probe.speedup() >= FITS * self.goal.value and (self.best is None or _likelier(probe, self.best)):
                self.best = probe
            count = probe.fitting(self.goal.value)
            if count == probe.count or (
                count < probe.count and self.best is not None and not _likelier(probe, self.best)
            ):
                return  # fewer I-steps would be no better

    def _search_fewest(self, choice: Choice) -> None:
        """The fewest I-steps that meet the floor; GoalOutOfReach where all but one do not."""
        first = self._probe(choice, max(1, self.steps // 3))
        if self._meets(first):
            self.best = first
            self._bisect(choice, choice.warmup - 1, first.count)
            return
        most = self._probe(choice, self.steps - 1)
        if not self._meets(most):
            raise GoalOutOfReach(self._why())
        self.best = most
        self._bisect(choice, first.count, most.count)

    def _search_faster(self, choice: Choice) -> None:
        """In a little less time than the best takes."""
        wanted = self.best.speedup() / FASTER
        count = self.best.as_if(choice).fitting(wanted)
        for _ in range(2):
            if count == 0:
                return
            probe = self._probe(choice, count)
            if self._meets(probe):
                break
            if (more := probe.fitting(wanted)) <= count:
                return
            count = more
        if self._meets(probe) and probe.speedup() > self.best.speedup():
            self.best = probe
            self._bisect(choice, choice.warmup - 1, probe.count)

    def _bisect(self, choice: Choice, misses: int, meets: int) -> None:
        """Down from the best, of this choice, to its fewest I-steps, above `misses` and below `meets`, that meet the
        floor.
        """
        while meets - misses > 1:
            tried = (misses + meets) // 2
            if not self._has_time_for(self.full_seconds * tried / self.steps):
                return
            probe = self._probe(choice, tried)
            if self._meets(probe):
                meets, self.best = tried, probe
            else:
                misses = tried

    def _place(self) -> None:
        """Better places for the I-steps of the best; under a floor, fewer of them at places that meet it as well."""
        if self.goal.kind == "speed-up":
            for better in self._climb(
                PlaceSearch(self.best.i_steps, self.steps, self._value(self.best), errors=self._simulated())
            ):
                self.best = better
            return
        while self.best.count > 1:
            fewer = PlaceSearch(
                carried(self.best.i_steps, self.taus, self.best.count - 1, self.taus),
                self.steps,
                errors=self._simulated(),
            )
            found = next(filter(self._meets, self._climb(fewer)), None)
            if found is None:
                return
            self.best = found

    def _simulated(self) -> Errors | None:
        """Of runs with the best choice's settings; None where the full run could not be recorded."""
        settings = self.best.choice.settings
        return None if self.record is None else simulator_beside_known(self.record, settings, self.run.euler).errors_db

    def _climb(self, search: PlaceSearch) -> Iterator[Probe]:
        """The best with its I-steps at other places, each better than the one before, while there is time and trying
        helps.
        """
        best = self.best
        while self._has_time_for(self.full_seconds / best.speedup()) and (places := search.propose()) is not None:
            probe = replace(
                self._tried(best.choice, places), times=best.times, whole=best.whole
            )  # where they lie takes no time
            if search.learn(places, self._value(probe)):
                self.log(f"I-steps {', '.join(map(str, places))}: {probe.result().text()}")
                yield probe

    def _meets(self, probe: Probe) -> bool:
        """Whether the mean over all samples can be expected to: the probe's own, less its standard error."""
        return self._value(probe) - standard_error(probe.likeness.by(self.goal.kind)) >= self.goal.value

    def _value(self, probe: Probe) -> float:
        """The mean of what the goal is about: of likeness, SSIM or PSNR."""
        return float(probe.likeness.by(self.goal.kind).mean())

    def _probe(self, choice: Choice, count: int) -> Probe:
        """With so many I-steps, evenly."""
        probe = self._tried(choice, choice.i_steps(count, self.taus))
        self.tried.append(probe)
        self.log(f"{choice.name}, {probe.count} I-steps: {probe.result().text()}")
        return probe

    def _tried(self, choice: Choice, i_steps: tuple[int, ...]) -> Probe:
        self.progress(min(1.0, self._elapsed() / (60 * self.minutes)))
        samples, report = sample_cached(self.run, choice.settings, ExplicitSchedule(i_steps))
        return Probe.of(choice, i_steps, self.steps, report, Likeness.of(samples, self.full, self.is_pixels))

    def _held_out(self, best: Probe) -> Result:
        ratios, found = [], []
        for batch in range(MOST_HELD_OUT):
            if batch and not self._has_time_for(self.full_seconds * (1 + 1 / best.speedup()), reserve=0):
                break
            self.progress(min(1.0, self._elapsed() / (60 * self.minutes)))
            run = self.start(HELD_OUT_SEEDS + batch)
            full, seconds = timed(lambda: _plain(run))
            (samples, _), cached_seconds = timed(
                lambda: sample_cached(run, best.choice.settings, ExplicitSchedule(best.i_steps))
            )
            ratios.append(seconds / cached_seconds)
            found.append(Likeness.of(samples, full, self.is_pixels))
        return Likeness.of_all(found).result(median(ratios))

    def _has_time_for(self, seconds: float, reserve: float = 2.0) -> bool:
        """reserve: full runs' seconds to be left for measuring the winner."""
        return self._elapsed() + seconds + reserve * self.full_seconds < 60 * self.minutes

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _why(self) -> str:
        if not self.tried:
            return (
                f"{self.minutes:g} minutes are too short a time for a full run of {self.full_seconds:.0f} s and some "
                "others: give it more"
            )
        if self.goal.kind == "speed-up":
            most = max(probe.speedup(1) for probe in self.tried)
            return (
                f"{self.goal} is out of reach: {self.steps} steps are at most {most:.1f} times as fast; ask for less, "
                "or sample more steps"
            )
        best = max(self.tried, key=lambda probe: probe.likeness.db.mean())
        return (
            f"{self.goal} cannot be met by any cache: with {best.count} of {self.steps} steps computed whole the runs "
            "came to "
            f"{best.result().text()}; ask for less"
        )


def _likelier(probe: Probe, other: Probe) -> bool:
    return bool(probe.likeness.db.mean() > other.likeness.db.mean())


def _plain(run: Run, around: Callable[[Denoise], Denoise] = lambda denoise: denoise) -> Tensor:
    with torch.no_grad():
        return run.sample(around)
