"""The tuner: finds by a few short runs which settings, and how many I-steps, reach a goal on a model (the paper's open
question 3).

If the goal is a speed-up, every choice (tuning/search_space.py) gets as many I-steps as its own step times allow, and
the choice most like the full run wins. If the goal is a floor of likeness, the first choice is bisected to its fewest
I-steps; every other one is tried once in a little less time than the best so far takes, and bisected only if it meets
the floor. So far I-steps lie where they would on known models. The winner then gets better places for them
(tuning/place_search.py), or fewer of them if they still meet the floor at other places. Finally it is measured on
samples that played no part in the choice, and so is the default, which is kept instead if it is the better of the two
there. The full run that all are compared with is recorded, so that moves of I-steps are tried in simulation before they
are tried on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

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
from ..words.message import say
from .place_proposals import errors_beside_known
from .place_search import PlaceSearch
from .preset import Goal, Preset, Result
from .probe import Likeness, Probe, standard_error
from .search_space import DEFAULT_CHOICE, Choice

MAX_HELD_OUT_BATCHES = 6  # on which the winner is measured
TIME_TO_BEAT = 0.97  # share of the best time so far in which another choice has to meet the floor
FIRST_SPEEDUP = 1.5  # assumed of a cached run before any has been timed
TAU_DIGITS = 6  # of noise times in a preset, which people paste
TOLERANCE = 0.98  # share of the wanted speed-up that is enough: the clock's noise may take the rest


class GoalOutOfReach(ValueError):
    """No choice reaches the goal. The message says which goal could be reached."""


class Tuner:
    """One tuning: `tune` searches, `preset` gives the best found so far.

    start: from a seed to a run of one batch; seeds from HELD_OUT_SEEDS on are for measuring only.
    goal: the speed-up or the likeness to reach.
    choices: to try, the most promising first.
    minutes: the time that the tuning may take.
    is_pixels: whether samples are pictures, not latents.
    log: takes lines for the user.
    progress: takes the share of `minutes` that has passed; an exception that it raises stops the tuning.
    on_change: called whenever there is something new in `numbers`.
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
        progress: Callable[[float], object] = lambda share: None,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        if goal.kind == "ssim" and not is_pixels:
            raise ValueError("SSIM is defined for pictures, but this model samples latents: give the floor as PSNR")
        self.start, self.goal, self.choices, self.minutes, self.is_pixels = start, goal, choices, minutes, is_pixels
        self.log, self.progress, self.on_change = log, progress, on_change
        self.started = time.monotonic()
        self.run = start(0)
        self.taus = tuple(round(self.run.noise_time(sigma), TAU_DIGITS) for sigma in self.run.sigmas[:-1].tolist())
        self.steps = len(self.taus)
        self.full = torch.empty(0)
        self.full_seconds = 0.0
        self.record: RunRecord | None = None
        self.tried: list[Probe] = []
        self.moved: list[Probe] = []  # the best with its I-steps at other places
        self.best: Probe | None = None
        self.measured: Result | None = None
        self.measured_default: Result | None = None  # on the same samples
        self.phase = "preparing"

    def tune(self) -> None:
        """Find the best choice and places, and measure them; GoalOutOfReach if no choice reaches the goal."""
        sample_cached(self.run, self.choices[0].settings, ExplicitSchedule((0,)))  # the first call is slow
        recorder = RunRecorder(self.run.sigmas.tolist(), self.run.input_scale)
        self.full, self.full_seconds = timed(lambda: _plain(self.run, recorder.around))
        self.record = recorder.record(self.run.noise_time) if recorder.complete else None
        self.log(f"full run: {self.full_seconds:.2f} s")
        self._enter("searching")
        for choice in self.choices:
            if not self._has_time_for(self.full_seconds / (self.best.speedup() if self.best else FIRST_SPEEDUP)):
                self.log(f"the time is over before '{choice.name}' could be tried")
                break
            try:
                self._search(choice)
            except torch.OutOfMemoryError:
                self.log(f"{choice.name}: not enough memory")
        if self.best is None:
            raise GoalOutOfReach(self._why())
        self.log(f"best: {self.best.choice.name}, {self.best.count} I-steps; looking for better places for them")
        self._enter("placing")
        best = self._place(self.best)
        self._enter("measuring")
        self.log(
            f"best: {best.choice.name}, I-steps {', '.join(map(str, best.i_steps))}; measuring it on other samples"
        )
        default = self.default
        self.measured, self.measured_default = self._held_out(best, default)
        if default is not None and self._is_better(self.measured_default, self.measured):
            self.log("the default settings and places are better on these samples: they are kept")
            self.best, self.measured = default, self.measured_default
        self.on_change()

    @property
    def default(self) -> Probe | None:
        """The best probe of the default settings that reaches the goal; None if none does."""
        ours = [probe for probe in self.tried if probe.choice.name == DEFAULT_CHOICE.name and self._reaches(probe)]
        if self.goal.kind == "speed-up":
            return max(ours, key=lambda probe: float(probe.likeness.db.mean()), default=None)
        return max(ours, key=Probe.speedup, default=None)

    def numbers(self) -> dict[str, Any]:
        """What was tried and found so far, as JSON for a page.

        Likeness is in the goal's measure, PSNR if the goal is a speed-up. "best" and "default" are places in "trials",
        or None. "measured" and "measured_default" have the speed-up and the likeness on other samples.
        """
        probes = [*self.tried, *self.moved]
        trials = [
            {
                "speedup": round(probe.speedup(), 3),
                "likeness": round(self._value(probe), 4),
                "i_steps": probe.count,
                "reaches": self._reaches(probe),
            }
            for probe in probes
        ]

        def place(wanted: Probe | None) -> int | None:
            return next((index for index, probe in enumerate(probes) if probe is wanted), None)

        return {
            "phase": self.phase,
            "goal": {"kind": self.goal.kind, "value": self.goal.value},
            "steps": self.steps,
            "seconds": round(self._elapsed(), 1),
            "minutes": self.minutes,
            "trials": trials,
            "best": place(self.best),
            "default": place(self.default),
            "measured": self._shown(self.measured),
            "measured_default": self._shown(self.measured_default),
        }

    def _is_better(self, result: Result | None, other: Result) -> bool:
        """Whether a result, of what reaches the goal, is better than another one; False if there is none."""
        if result is None:
            return False
        if self.goal.kind == "speed-up":
            return result.psnr_db > other.psnr_db
        return result.speedup > other.speedup

    def _shown(self, result: Result | None) -> list[float] | None:
        if result is None:
            return None
        likeness = result.ssim if self.goal.kind == "ssim" and result.ssim is not None else result.psnr_db
        return [round(result.speedup, 3), round(likeness, 4)]

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.on_change()

    def _reaches(self, probe: Probe) -> bool:
        if self.goal.kind == "speed-up":
            return probe.speedup() >= TOLERANCE * self.goal.value
        return self._meets(probe)

    def preset(self, fingerprint: Fingerprint, notes: Mapping[str, str]) -> Preset | None:
        """The preset of the best so far; None if there is none. notes: on the conditions of the tuning."""
        best = self.best
        if best is None:
            return None
        return Preset(
            settings=best.choice.settings,
            i_steps=best.i_steps,
            taus=self.taus,
            fingerprint=fingerprint,
            goal=self.goal,
            predicted=best.result(),
            measured=self.measured,
            default=self.measured_default,
            notes={"choice": best.choice.name, **notes},
        )

    def _search(self, choice: Choice) -> None:
        if self.goal.kind == "speed-up":
            self._search_likest(choice)
        elif self.best is None:
            self._search_fewest(choice)
        else:
            self._search_faster(choice, self.best)

    def _search_likest(self, choice: Choice) -> None:
        """Try the choice with as many I-steps as the wanted speed-up allows."""
        count = (
            self.tried[0].with_times_of(choice).most_i_steps(self.goal.value)
            if self.tried
            else max(1, round(self.steps / self.goal.value))
        )
        for _ in range(3):  # the first count is a guess: by another choice's times, or by none at all
            if count == 0:
                self.log(f"{choice.name}: {self.goal} is out of its reach")
                return
            probe = self._probe(choice, count)
            fast_enough = probe.speedup() >= TOLERANCE * self.goal.value
            if fast_enough and (self.best is None or _is_more_like(probe, self.best)):
                self.best = probe
            count = probe.most_i_steps(self.goal.value)
            if count == probe.count or (
                count < probe.count and self.best is not None and not _is_more_like(probe, self.best)
            ):
                return  # fewer I-steps would be no better

    def _search_fewest(self, choice: Choice) -> None:
        """Find the fewest I-steps that meet the floor; GoalOutOfReach if even all steps but one do not."""
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

    def _search_faster(self, choice: Choice, best: Probe) -> None:
        """Try the choice in a little less time than the best takes."""
        wanted = best.speedup() / TIME_TO_BEAT
        count = best.with_times_of(choice).most_i_steps(wanted)
        for _ in range(2):  # the first count is a guess
            if count == 0:
                return
            probe = self._probe(choice, count)
            if self._meets(probe):
                if probe.speedup() > best.speedup():
                    self.best = probe
                    self._bisect(choice, choice.warmup - 1, probe.count)
                return
            if (more := probe.most_i_steps(wanted)) <= count:
                return
            count = more

    def _bisect(self, choice: Choice, misses: int, meets: int) -> None:
        """Bisect to the fewest I-steps of the choice, which is the best so far, that meet the floor.

        misses, meets: numbers of I-steps that are known to miss and to meet it.
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

    def _place(self, best: Probe) -> Probe:
        """The best with better places for its I-steps; under a floor, with fewer of them that still meet it."""
        errors = self._simulated(best)
        if self.goal.kind == "speed-up":
            for better in self._climb(best, PlaceSearch(best.i_steps, self.steps, self._value(best), errors=errors)):
                self.best = best = better
            return best
        while best.count > 1:
            places = carried(best.i_steps, self.taus, best.count - 1, self.taus)
            fewer = PlaceSearch(places, self.steps, errors=errors)
            found = next(filter(self._meets, self._climb(best, fewer)), None)
            if found is None:
                break
            self.best = best = found
        return best

    def _simulated(self, best: Probe) -> Errors | None:
        """The errors of simulated runs with the best choice's settings; None if the full run could not be recorded."""
        if self.record is None:
            return None
        return errors_beside_known(self.record, best.choice.settings, self.run.euler, self.run.fading)

    def _climb(self, best: Probe, search: PlaceSearch) -> Iterator[Probe]:
        """The best with its I-steps at other places, each better than the one before, while there is time and the
        search has proposals.
        """
        while self._has_time_for(self.full_seconds / best.speedup()) and (places := search.propose()) is not None:
            # places do not affect the time
            probe = replace(self._tried(best.choice, places), times=best.times, whole=best.whole)
            self.moved.append(probe)
            better = search.learn(places, self._value(probe))
            self.on_change()
            if better:
                self.log(f"I-steps {', '.join(map(str, places))}: {probe.result().text()}")
                yield probe

    def _meets(self, probe: Probe) -> bool:
        """Whether the probe's mean likeness minus its standard error meets the floor."""
        return self._value(probe) - standard_error(probe.likeness.by(self.goal.kind)) >= self.goal.value

    def _value(self, probe: Probe) -> float:
        """The mean SSIM if that is the goal, else the mean PSNR."""
        return float(probe.likeness.by(self.goal.kind).mean())

    def _probe(self, choice: Choice, count: int) -> Probe:
        """Try a choice with `count` I-steps where they would lie on known models."""
        probe = self._tried(choice, choice.i_steps(count, self.taus))
        self.tried.append(probe)
        self.on_change()
        self.log(f"{choice.name}, {probe.count} I-steps: {probe.result().text()}")
        return probe

    def _tried(self, choice: Choice, i_steps: tuple[int, ...]) -> Probe:
        self.progress(min(1.0, self._elapsed() / (60 * self.minutes)))
        samples, report = sample_cached(self.run, choice.settings, ExplicitSchedule(i_steps))
        return Probe.of(choice, i_steps, self.steps, report, Likeness.of(samples, self.full, self.is_pixels))

    def _held_out(self, best: Probe, default: Probe | None) -> tuple[Result, Result | None]:
        """The results, of the best and of the default, on samples that played no part in the choice."""
        found = [best] if default is None or default is best else [best, default]
        speedups: list[list[float]] = [[] for _ in found]
        likenesses: list[list[Likeness]] = [[] for _ in found]
        for batch in range(MAX_HELD_OUT_BATCHES):
            if batch and not self._has_time_for(
                self.full_seconds * (1 + sum(1 / probe.speedup() for probe in found)), reserve=0
            ):
                break
            run = self.start(HELD_OUT_SEEDS + batch)
            full, seconds = timed(lambda: _plain(run))
            for place, probe in enumerate(found):
                self.progress(min(1.0, self._elapsed() / (60 * self.minutes)))
                (samples, _), cached_seconds = timed(
                    lambda: sample_cached(run, probe.choice.settings, ExplicitSchedule(probe.i_steps))
                )
                speedups[place].append(seconds / cached_seconds)
                likenesses[place].append(Likeness.of(samples, full, self.is_pixels))
        results = [Likeness.of_all(alike).result(median(speed)) for alike, speed in zip(likenesses, speedups)]
        return results[0], results[-1] if default is not None else None

    def _has_time_for(self, seconds: float, reserve: float = 2.0) -> bool:
        """Whether `seconds` more fit into the time. reserve: full runs that must still fit, to measure the winner."""
        return self._elapsed() + seconds + reserve * self.full_seconds < 60 * self.minutes

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _why(self) -> str:
        """Why the goal is out of reach, and what to do."""
        if not self.tried:
            return say(
                "tuning_too_short",
                "{minutes} minutes are too few for a full run of {seconds} s and some others: allow more time",
                minutes=f"{self.minutes:g}",
                seconds=f"{self.full_seconds:.0f}",
            )
        if self.goal.kind == "speed-up":
            most = max(probe.speedup(1) for probe in self.tried)
            return say(
                "tuning_out_of_reach",
                "{goal} is out of reach: {steps} steps can be at most {most} times as fast; ask for less, or sample "
                "more steps",
                goal=self.goal,
                steps=self.steps,
                most=f"{most:.1f}",
            )
        best = max(self.tried, key=lambda probe: probe.likeness.db.mean())
        return say(
            "tuning_cannot_be_met",
            "{goal} cannot be met by any cache: with {count} of {steps} steps in full, the result was {result}; "
            "ask for less",
            goal=self.goal,
            count=best.count,
            steps=self.steps,
            result=best.result().text(),
        )


def _is_more_like(probe: Probe, other: Probe) -> bool:
    """Whether the samples of `probe` are more like the full run's than those of `other`."""
    return bool(probe.likeness.db.mean() > other.likeness.db.mean())


def _plain(run: Run, around: Callable[[Denoise], Denoise] = lambda denoise: denoise) -> Tensor:
    with torch.no_grad():
        return run.sample(around)
