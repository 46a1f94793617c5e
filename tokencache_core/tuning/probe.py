"""A probe: one short run of a tuning, with its times and the likeness of its samples to the full run's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from ..engine.record import Report
from ..likeness.metrics import capped_psnr, ssim
from .preset import Result
from .search_space import Choice


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one I-step and of one P-step."""

    i_step: float
    p_step: float

    def run_seconds(self, i_steps: int, steps: int) -> float:
        return i_steps * self.i_step + (steps - i_steps) * self.p_step

    def i_steps_for(self, seconds: float, steps: int, least: int = 1) -> int:
        """The number of I-steps, from `least` to `steps`, with which a run takes closest to `seconds`."""
        return min(range(min(least, steps), steps + 1), key=lambda count: abs(self.run_seconds(count, steps) - seconds))


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of `values` (B,)."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Likeness:
    """The likeness of each sample to the full run's.

    db: PSNR in dB, (B,).
    ssim: SSIM, (B,); None for latents.
    """

    db: Tensor
    ssim: Tensor | None

    @classmethod
    def of(cls, samples: Tensor, full: Tensor, is_pixels: bool) -> Likeness:
        """The likeness of `samples` to `full`: pictures (B, C, H, W), or latents of any shape (B, ...)."""
        if is_pixels:
            return cls(capped_psnr(samples, full), ssim(samples, full))
        flat = (part.float().flatten(1)[:, None, None] for part in (samples, full))
        return cls(capped_psnr(*flat, clamp=False), None)

    @classmethod
    def of_all(cls, batches: Sequence[Likeness]) -> Likeness:
        """The likeness of the samples of several batches together."""
        ssims = [batch.ssim for batch in batches if batch.ssim is not None]
        return cls(torch.cat([batch.db for batch in batches]), torch.cat(ssims) if ssims else None)

    def by(self, kind: str) -> Tensor:
        """The measure (B,) that a goal of this kind sets a floor for: SSIM for "ssim", else PSNR."""
        if kind != "ssim":
            return self.db
        assert self.ssim is not None  # latents have no such goal
        return self.ssim

    def result(self, speedup: float) -> Result:
        return Result(
            speedup,
            float(self.db.mean()),
            standard_error(self.db),
            None if self.ssim is None else float(self.ssim.mean()),
            len(self.db),
        )


@dataclass(frozen=True)
class Probe:
    """One short run of a choice.

    i_steps, steps: its I-steps, and its number of steps.
    times: of its steps.
    whole: seconds of a step without the cache, estimated from the I-steps.
    likeness: of its samples to the full run's.
    """

    choice: Choice
    i_steps: tuple[int, ...]
    steps: int
    times: StepTimes
    whole: float
    likeness: Likeness

    @classmethod
    def of(cls, choice: Choice, i_steps: tuple[int, ...], steps: int, report: Report, likeness: Likeness) -> Probe:
        """The probe of a finished run. Without P-steps to time, their time is 0."""
        seconds = {kind: [step.seconds for step in report.steps if step.kind == kind] for kind in "IP"}
        times = StepTimes(median(seconds["I"]), median(seconds["P"]) if seconds["P"] else 0.0)
        return cls(choice, i_steps, steps, times, report.whole_step_seconds, likeness)

    @property
    def count(self) -> int:
        return len(self.i_steps)

    def speedup(self, count: int | None = None) -> float:
        """The speed-up with `count` I-steps, by default as many as it has."""
        return self.steps * self.whole / self.times.run_seconds(self.count if count is None else count, self.steps)

    def most_i_steps(self, speedup: float) -> int:
        """The most I-steps with which a run reaches `speedup`; 0 if none does."""
        return max((count for count in range(1, self.steps + 1) if self.speedup(count) >= speedup), default=0)

    def with_times_of(self, choice: Choice) -> Probe:
        """This probe with the step times that another choice may have, as a guess before any of its runs."""
        return replace(self, times=replace(self.times, p_step=max(self.times.p_step, choice.p_step * self.whole)))

    def result(self) -> Result:
        return self.likeness.result(self.speedup())
