"""Comparison of the same run without and with TokenCache: likeness of the pictures, and sampling times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from torch import Tensor

from . import metrics

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
        return (
            f"a run took only {shortest:.2f} s, too short to be measured well: use more steps, a larger picture or a "
            "larger batch, or compare several runs"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """All notes for the user."""
        return (*([self.too_short] if self.too_short else []), *self.warnings)

    def text(self) -> str:
        """The comparison as text."""
        alike = (
            "the same to the last bit"
            if math.isinf(self.mean_psnr)
            else f"PSNR {self.mean_psnr:.1f} dB, SSIM {self.mean_ssim:.4f}"
        )
        return "\n".join(
            [
                f"TokenCache: {self.speedup:.2f}x by the clock, measured in this run",
                f"sampling: {self.plain_seconds:.2f} s without, {self.cached_seconds:.2f} s with TokenCache",
                f"pictures: {alike}",
                f"compute: {self.compute:.1%} of the block-tokens",
                f"steps: {self.kinds}",
                *(f"note: {note}" for note in self.notes),
            ]
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
