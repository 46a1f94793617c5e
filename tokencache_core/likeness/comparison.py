"""Comparison of the same run without and with TokenCache: likeness of the pictures, and sampling times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from torch import Tensor

from ..words.message import lines, say
from . import metrics

LEVEL, CLOSE, ALIKE = 40.0, 30.0, 20.0  # dB: hard to see above, details change below, other pictures below
MODEST = 2.2  # times as many steps as I-steps; a run of more can be made slower
NOISY = 1.15  # times as fast as the share of the compute allows; more is the clock's fault
SHORT = 1.0  # seconds; the times of shorter runs vary too much


@dataclass(frozen=True)
class Comparison:
    """The comparison of a run without and with TokenCache.

    plain_seconds, cached_seconds: wall-clock time of sampling, without and with.
    psnr, ssim: one number per picture; PSNR in dB.
    compute: share of the block-tokens that the cached run computed.
    kinds: "I" or "P" for each of its steps.
    warnings: warnings about the cached run, for the user.
    """

    plain_seconds: float
    cached_seconds: float
    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    compute: float
    kinds: str
    warnings: tuple[str, ...] = ()

    @property
    def speedup(self) -> float:
        return self.plain_seconds / self.cached_seconds

    @property
    def mean_psnr(self) -> float:
        """The mean over the pictures that differ; infinite if none does."""
        differing = [value for value in self.psnr if math.isfinite(value)]
        return fmean(differing) if differing else math.inf

    @property
    def mean_ssim(self) -> float:
        return fmean(self.ssim)

    @property
    def too_short(self) -> str:
        """A note if a run was too short to be timed reliably, or ""."""
        shortest = min(self.plain_seconds, self.cached_seconds)
        if shortest >= SHORT:
            return ""
        return say(
            "compare_too_short",
            "a run took only {seconds} s, which is too short to time well: use more steps, a larger picture or a "
            "larger batch, or compare several runs",
            seconds=f"{shortest:.2f}",
        )

    @property
    def too_fast(self) -> str:
        """A note if the cached run was faster than what it computed allows, or ""."""
        if self.too_short or self.speedup * self.compute <= NOISY:
            return ""
        return say(
            "compare_too_fast",
            "the run without TokenCache was slowed down by other work: computing {share} of it is at most {most}x as "
            "fast; compare again when the machine is quiet",
            share=f"{self.compute:.0%}",
            most=f"{1 / self.compute:.1f}",
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """All notes for the user."""
        return (*(note for note in (self.too_short, self.too_fast) if note), *self.warnings)

    @property
    def verdict(self) -> str:
        """How alike the pictures are, in a few words, and what to do if they are not."""
        if math.isinf(self.mean_psnr):
            return say("verdict_equal", "the same picture, to the last bit")
        if self.mean_psnr >= LEVEL:
            return say("verdict_level", "hard to tell apart by eye")
        if self.mean_psnr >= CLOSE:
            return say("verdict_close", "close: fine details may differ")
        differ = (
            say("verdict_details", "details differ")
            if self.mean_psnr >= ALIKE
            else say("verdict_other", "clearly different pictures")
        )
        if self.kinds.count("I") * MODEST < len(self.kinds):
            return say("verdict_try_2x", "{differ}: try speed_up 2, or a preset for closer pictures", differ=differ)
        return say("verdict_calibrate", "{differ}: turn on calibrate_on_first_run, or use more steps", differ=differ)

    def text(self) -> str:
        """The comparison as text."""
        values = {"psnr": f"{self.mean_psnr:.1f}", "ssim": f"{self.mean_ssim:.4f}", "verdict": self.verdict}
        return lines(
            say(
                "compare_head",
                "TokenCache: {speedup}x by the clock, measured in this run",
                speedup=f"{self.speedup:.2f}",
            ),
            say(
                "compare_sampling",
                "sampling: {plain} s without, {cached} s with TokenCache",
                plain=f"{self.plain_seconds:.2f}",
                cached=f"{self.cached_seconds:.2f}",
            ),
            say("compare_pictures_equal", "pictures: {verdict}", verdict=self.verdict)
            if math.isinf(self.mean_psnr)
            else say("compare_pictures", "pictures: {verdict} (PSNR {psnr} dB, SSIM {ssim})", **values),
            say("compare_compute", "compute: {share} of the block-tokens", share=f"{self.compute:.1%}"),
            say("compare_steps", "steps: {kinds}", kinds=self.kinds),
            *(say("compare_note", "note: {note}", note=note) for note in self.notes),
        )

    def data(self) -> dict[str, Any]:
        """The comparison as JSON data for the page, in which an infinite PSNR is None."""
        return {
            "speedup": round(self.speedup, 2),
            "plain_seconds": round(self.plain_seconds, 3),
            "cached_seconds": round(self.cached_seconds, 3),
            "psnr": [round(value, 2) if math.isfinite(value) else None for value in self.psnr],
            "ssim": [round(value, 4) for value in self.ssim],
            "compute": round(self.compute, 4),
            "verdict": self.verdict,
            "warnings": list(self.notes),
            "text": self.text(),
        }


def likeness(plain: Tensor, cached: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """PSNR and SSIM of each pair of pictures (P, H, W, C) in [0, 1]."""
    # one by one, to save memory
    pairs = [(_as_batch(first), _as_batch(second)) for first, second in zip(plain, cached)]
    return tuple(float(metrics.psnr(*pair)) for pair in pairs), tuple(float(metrics.ssim(*pair)) for pair in pairs)


def _as_batch(picture: Tensor) -> Tensor:
    """A picture (H, W, C) in [0, 1] as (1, 3, H, W) in [-1, 1]."""
    return 2 * picture[None, ..., :3].movedim(-1, 1) - 1
