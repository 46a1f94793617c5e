"""Tests whether the default places of I-steps, and calibrated ones, serve other models, schedules, step counts, solvers
and guidance, one condition at a time.

Each is tested on classes and noise that no calibration or search has seen, beside what the same computation buys
otherwise: as many full steps of the same solver and of the best one, even gaps between I-steps, TaylorSeer (arXiv
2503.06923) at an interval that gives as many I-steps or one more, and the places and order of forecasts that a search
on real runs finds.
A model that is a known one itself also gets the places that the other known models alone give, and its calibration
asks those alone, as if it had never been seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..bench.rows import mean_psnr
from ..runs.cached_sampling import sample_cached
from ..runs.run import HELD_OUT_SEEDS, Run
from ..runs.sampled_model import RandomRuns, SampledModel
from ..sampling.samplers import SOLVERS
from ..sampling.sigma_schedule import SigmaSchedule
from ..schedules.known_models import known_places
from ..schedules.noise_places import even_in_steps
from ..schedules.place_climb import Places
from ..schedules.schedule import ExplicitSchedule, UniformSchedule
from ..settings import DEFAULTS, CacheSettings
from ..tuning.calibrate_places import calibrate_places
from ..tuning.place_proposals import orders_beside
from ..tuning.place_search import PlaceSearch

TAYLORSEER = CacheSettings(order=2, fitted=False, corrector=0.0, reach=1.0)


@dataclass(frozen=True)
class GeneralityCondition:
    """How a run is sampled, and the share of its steps that are I-steps."""

    schedule: SigmaSchedule
    steps: int
    solver: str
    cfg: float
    share: float

    @property
    def count(self) -> int:
        return max(2, round(self.share * self.steps))

    def __str__(self) -> str:
        return f"{self.schedule}, {self.steps} steps of {self.solver}, guidance {self.cfg:g}, {self.count} I-steps"


@dataclass(frozen=True)
class GeneralityOutcome:
    """The results under one condition: PSNR in dB against the full run, of samples that nothing was chosen on.

    calibration: its cost in words.
    """

    model: str
    condition: str
    default_db: float
    others_db: float  # at the default places if this model had never been seen
    calibrated_db: float  # likewise
    searched_db: float
    even_db: float  # at even gaps in the step's number
    fewer_db: float  # as many full steps of the same solver
    best_fewer_db: float  # and of the best
    taylorseer_db: float
    calibration: str

    @property
    def decibels(self) -> tuple[float, ...]:
        """In the order of the table's columns."""
        return (
            self.default_db,
            self.others_db,
            self.calibrated_db,
            self.searched_db,
            self.even_db,
            self.fewer_db,
            self.best_fewer_db,
            self.taylorseer_db,
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> GeneralityOutcome:
        """ValueError for what `as_json` does not write."""
        names = {field.name for field in fields(cls)}
        if not isinstance(content, dict) or set(content) != names:
            raise ValueError(f"a row of the table must have {', '.join(sorted(names))}")
        return cls(**content)


def conditions(
    schedules: Iterable[SigmaSchedule],
    steps: Iterable[int],
    solvers: Iterable[str],
    cfgs: Iterable[float],
    shares: Iterable[float],
) -> list[GeneralityCondition]:
    """All combinations, once each; those whose I-steps would be every step, or no choice, are left out."""
    found = [
        GeneralityCondition(schedule, count, solver, cfg, share)
        for schedule in schedules
        for count in steps
        for solver in solvers
        for cfg in cfgs
        for share in shares
    ]
    return list({str(condition): condition for condition in found if condition.count < condition.steps}.values())


@torch.no_grad()
def measure(
    model: SampledModel, name: str, condition: GeneralityCondition, *, known_as: str, samples: int, tries: int
) -> GeneralityOutcome:
    """Measure one model under one condition.

    name: of the model, for the table.
    known_as: the beginning of its name among known models, if it may be one.
    samples: of a batch; one batch is for calibration and search, another is measured.
    tries: the largest number of cached runs in the search.
    """
    training, measuring = model.conditions_apart(None)

    def run(seed: int, steps: int = condition.steps, solver: str = condition.solver) -> Run:
        how = {"batch": samples, "steps": steps, "cfg": condition.cfg, "solver": solver, "schedule": condition.schedule}
        return RandomRuns(model, training, measuring, **how)(seed)

    seen, kept = run(0), run(HELD_OUT_SEEDS)
    is_pixels = model.is_pixels
    full = kept.sample()

    def likeness(samples: Tensor) -> float:
        return mean_psnr(samples, full, is_pixels)

    @cache  # several ways may come to the same places
    def cached(places: Places, settings: CacheSettings = DEFAULTS) -> float:
        return likeness(sample_cached(kept, settings, ExplicitSchedule(places))[0])

    count, taus = condition.count, [kept.noise_time(sigma) for sigma in kept.sigmas[:-1].tolist()]
    default, others = (known_places(count, taus, fading=kept.fading, without=without) for without in ("", known_as))
    even = even_in_steps(count, condition.steps)
    _, found = calibrate_places(seen, DEFAULTS, counts=(count,), without=known_as)
    calibrated, by_order = (
        found.places[count],
        {order: replace(DEFAULTS, order=order) for order in orders_beside(DEFAULTS.order)},
    )
    starts = [(settings, places) for settings in by_order.values() for places in {default, others, calibrated, even}]
    settings, searched = _searched(seen, starts, condition.steps, tries, is_pixels)
    fewer = {solver: likeness(run(HELD_OUT_SEEDS, count, solver).sample()) for solver in SOLVERS}
    taylorseer = UniformSchedule(-(-condition.steps // count), warmup=TAYLORSEER.order + 1).i_steps(taus)
    return GeneralityOutcome(
        name,
        str(condition),
        cached(default),
        cached(others),
        cached(calibrated, by_order[found.order]),
        cached(searched, settings),
        cached(even),
        fewer[condition.solver],
        max(fewer.values()),
        cached(tuple(sorted(taylorseer)), TAYLORSEER),
        found.cost(),
    )


def _searched(
    run: Run, starts: Sequence[tuple[CacheSettings, Places]], steps: int, tries: int, is_pixels: bool
) -> tuple[CacheSettings, Places]:
    """The best of `tries` real runs: from the best of `starts` on, with its settings."""
    full = run.sample()

    def value(settings: CacheSettings, places: Places) -> float:
        return mean_psnr(sample_cached(run, settings, ExplicitSchedule(places))[0], full, is_pixels)

    values = {start: value(*start) for start in starts}
    best = max(values, key=values.__getitem__)
    settings, places = best
    search = PlaceSearch(places, steps, values[best])
    for _ in range(tries - len(values)):
        if (places := search.propose()) is None:
            break
        search.learn(places, value(settings, places))
    return settings, search.places


def table(outcomes: Sequence[GeneralityOutcome]) -> Iterator[str]:
    """Lines of Markdown: every condition, and beneath them the mean of each column."""
    yield (
        "| model | run | default | from other models alone | calibrated | searched | even gaps | as many full steps "
        "| of the best solver | TaylorSeer |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for each in outcomes:
        values = " | ".join(f"{value:.1f}" for value in each.decibels)
        yield f"| {each.model} | {each.condition} | {values} |"
    if outcomes:
        means = " | ".join(f"{sum(column) / len(column):.1f}" for column in zip(*(each.decibels for each in outcomes)))
        yield f"| mean of {len(outcomes)} | | {means} |"


def summary(outcomes: Sequence[GeneralityOutcome]) -> Iterator[str]:
    """What the table says, in sentences."""
    if not outcomes:
        return
    for name, what in (
        ("default_db", "default places"),
        ("others_db", "places from other models alone"),
        ("calibrated_db", "calibrated places"),
    ):
        behind = [each.searched_db - getattr(each, name) for each in outcomes]
        below = [each for each in outcomes if getattr(each, name) < each.fewer_db]
        yield (
            f"The {what} are {sum(behind) / len(behind):.1f} dB behind the search on average, "
            f"{max(behind):.1f} dB at most; within 1 dB of it on "
            f"{sum(distance <= 1 for distance in behind)} of {len(outcomes)} conditions, and below as many full "
            f"steps of the same solver on {len(below)}."
        )
