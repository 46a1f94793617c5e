"""One short run of a tuning: how fast it was, and how like the full run its samples are."""

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
        """The number of I-steps, `least`..steps, whose run comes nearest to `seconds`."""
        return min(range(min(least, steps), steps + 1), key=lambda count: abs(self.run_seconds(count, steps) - seconds))


def standard_error(values: Tensor) -> float:
    """Of the mean of values (B,)."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Likeness:
    """To the full run, sample by sample: PSNR in dB and, of pictures, SSIM, (B,) each."""

    db: Tensor
    ssim: Tensor | None

    @classmethod
    def of(cls, samples: Tensor, full: Tensor, is_pixels: bool) -> Likeness:
        """samples, full: pictures (B, C, H, W), or latents of any shape (B, ...)."""
        if is_pixels:
            return cls(capped_psnr(samples, full), ssim(samples, full))
        flat = (part.float().flatten(1)[:, None, None] for part in (samples, full))
        return cls(capped_psnr(*flat, clamp=False), None)

    @classmethod
    def of_all(cls, parts: Sequence[Likeness]) -> Likeness:
        return cls(
            torch.cat([part.db for part in parts]),
            None if parts[0].ssim is None else torch.cat([part.ssim for part in parts]),
        )

    def by(self, kind: str) -> Tensor:
        """(B,) of what a goal of this kind is about."""
        return self.ssim if kind == "ssim" else self.db

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
    """One short run of a choice. i_steps: of `steps`. whole: seconds of an unpatched step, estimated from the
    I-steps.
    """

    choice: Choice
    i_steps: tuple[int, ...]
    steps: int
    times: StepTimes
    whole: float
    likeness: Likeness

    @classmethod
    def of(cls, choice: Choice, i_steps: tuple[int, ...], steps: int, report: Report, likeness: Likeness) -> Probe:
        """A run without P-steps has none to be timed: they would cost nothing."""
        seconds = {kind: [step.seconds for step in report.steps if step.kind == kind] for kind in "IP"}
        times = StepTimes(median(seconds["I"]), median(seconds["P"]) if seconds["P"] else 0.0)
        return cls(choice, i_steps, steps, times, report.whole_step_seconds, likeness)

    @property
    def count(self) -> int:
        return len(self.i_steps)

    def speedup(self, count: int | None = None) -> float:
        """With so many I-steps, or as many as it has."""
        return self.steps * self.whole / self.times.run_seconds(self.count if count is None else count, self.steps)

    def fitting(self, speedup: float) -> int:
        """The most I-steps with which a run is as fast; 0 where none is."""
        return max((count for count in range(1, self.steps + 1) if self.speedup(count) >= speedup), default=0)

    def as_if(self, choice: Choice) -> Probe:
        """What another choice's step times may be like, before any of its runs."""
        return replace(self, times=replace(self.times, p_step=max(self.times.p_step, choice.p_step * self.whole)))

    def result(self) -> Result:
        return self.likeness.result(self.speedup())
