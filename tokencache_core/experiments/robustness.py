"""Tests whether a setting that was found under one condition also serves others: under each condition, a cached run is
compared with as many full steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..bench.rows import mean_psnr
from ..dit.model import DiT
from ..dit.sampling import cached_sample, sample
from ..engine.stopwatch import timed
from ..predictor.trained_parts import TrainedParts
from ..sampling.samplers import starting_noise
from ..sampling.sigma_schedule import SigmaSchedule
from ..schedules.schedule import CountSchedule
from ..settings import CacheSettings


@dataclass(frozen=True)
class Condition:
    """How a run is sampled. scale: the picture's side, relative to the trained one."""

    steps: int = 50
    solver: str = "ddim"
    cfg: float = 4.0
    scale: float = 1.0
    schedule: SigmaSchedule = SigmaSchedule()

    def __str__(self) -> str:
        side = "" if self.scale == 1 else f", {self.scale:g} times the side"
        schedule = "" if self.schedule == SigmaSchedule() else f" on {self.schedule}"
        return f"{self.steps} steps of {self.solver}{schedule}, guidance {self.cfg:g}{side}"


USUAL = Condition()
CONDITIONS = (
    USUAL,
    replace(USUAL, steps=20),
    replace(USUAL, steps=100),
    replace(USUAL, steps=250),
    replace(USUAL, solver="dpmpp_2m"),
    replace(USUAL, cfg=1.5),
    replace(USUAL, cfg=7.0),
    replace(USUAL, scale=1.5),
)


@dataclass(frozen=True)
class ConditionOutcome:
    """The results under one condition: PSNR against the full run, in dB, and speed-up by the clock, one run each."""

    condition: Condition
    i_steps: int
    speedup: float
    cached_db: float
    fewer_steps_db: float


def compare(
    model: DiT,
    labels: Tensor,
    seed: int,
    settings: CacheSettings,
    share: float,
    conditions: Iterable[Condition],
    learned: TrainedParts = TrainedParts(),
) -> Iterator[ConditionOutcome]:
    """The results under each of `conditions`.

    labels, seed: (B,) of the samples, and of their noise.
    settings, learned: of the cached runs.
    share: the share of steps that are I-steps; the run to compare with has as many full steps of the same solver.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of I-steps must lie between 0 and 1, not {share:g}")
    config, is_pixels = model.config, model.is_pixels
    for condition in conditions:
        side = round(config.input_size * condition.scale / config.patch_size) * config.patch_size
        sigmas, count = condition.schedule.sigmas(condition.steps), max(2, round(share * condition.steps))
        noise = starting_noise((len(labels), config.in_channels, side, side), seed, sigmas[0]).to(labels.device)
        how: dict[str, Any] = {"noise": noise, "cfg": condition.cfg, "solver": condition.solver}
        schedule = CountSchedule(count)
        full, full_seconds = timed(lambda: sample(model, labels, sigmas=sigmas, **how))
        (cached, _), seconds = timed(
            lambda: cached_sample(
                model, labels, sigmas=sigmas, settings=settings, schedule=schedule, learned=learned, **how
            )
        )
        fewer = sample(model, labels, sigmas=condition.schedule.sigmas(count), **how)
        yield ConditionOutcome(
            condition,
            count,
            full_seconds / seconds,
            mean_psnr(cached, full, is_pixels),
            mean_psnr(fewer, full, is_pixels),
        )


def table(outcomes: Iterable[ConditionOutcome]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield "| run | I-steps | speed-up | cached | as many full steps |"
    yield "|---|---|---|---|---|"
    for found in outcomes:
        yield (
            f"| {found.condition} | {found.i_steps} | {found.speedup:.2f}x | {found.cached_db:.1f} dB | "
            f"{found.fewer_steps_db:.1f} dB |"
        )
