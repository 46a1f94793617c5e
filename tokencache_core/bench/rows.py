"""The rows of the benchmark's table and JSON file, from the measurements of all candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import median
from typing import Any

from torch import Tensor

from ..likeness.metrics import capped_psnr, flicker, ssim
from .turns import Candidate, Measurement, baselines_of
from .workload import SampledWorkload

MATCH_TOLERANCE = 0.03


@dataclass(frozen=True)
class Row:
    """One row of the table and of the JSON file, whose format fixes the fields."""

    method: str
    settings: dict[str, Any]
    seconds: float  # median of the repeats
    speedup: float  # median of the repeats, each against the full runs nearest to it in time
    compute: float  # share of the full run's block-token evaluations
    psnr_db: float | None  # against `full`; None for `full` itself
    ssim: float | None  # None for latents too
    psnr_exact_db: float  # against the exact run
    flicker: float | None = None  # of clips of pictures, against `full`
    frechet: float | None = None  # from the data
    frechet_from_full: float | None = None  # from the full run's samples
    frechet_times_full: tuple[float, float, float] | None = None  # `frechet` by the full run's, and its 95 % interval
    speedup_spread: float = 0.0  # largest minus smallest repeat
    note: str = ""

    @property
    def quality_db(self) -> float:
        """The PSNR against `full` of a row that is not `full` itself."""
        assert self.psnr_db is not None
        return self.psnr_db

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Row:
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})


def rows_of(
    candidates: Sequence[Candidate], measured: Sequence[Measurement], exact: Tensor, workload: SampledWorkload
) -> list[Row]:
    """The rows of all candidates.

    For every baseline that candidates name, exactly one candidate must be of that method.

    measured: by candidate.
    exact: the exact run's samples (B, C, H, W).
    """
    full = {name: measured[index] for name, index in baselines_of(candidates).items()}
    rows = [_row(c, m, full[c.baseline], exact, workload.is_pixels) for c, m in zip(candidates, measured)]
    return [_with_match(row, candidate, rows) for row, candidate in zip(rows, candidates)]


def _row(candidate: Candidate, measured: Measurement, full: Measurement, exact: Tensor, is_pixels: bool) -> Row:
    is_full = measured is full
    is_clips = is_pixels and full.pictures.dim() == 5
    return Row(
        method=candidate.method,
        settings=candidate.settings,
        seconds=median(measured.seconds),
        speedup=median(measured.speedups),
        compute=measured.compute,
        psnr_db=None if is_full else mean_psnr(measured.pictures, full.pictures, is_pixels),
        ssim=None if is_full or not is_pixels else ssim(measured.pictures, full.pictures).mean().item(),
        psnr_exact_db=mean_psnr(measured.pictures, exact, is_pixels),
        flicker=flicker(measured.pictures, full.pictures).mean().item() if is_clips and not is_full else None,
        speedup_spread=max(measured.speedups) - min(measured.speedups),
        note=f"{len(measured.seconds)} runs, {min(measured.seconds):.2f} to {max(measured.seconds):.2f} s"
        if is_full
        else candidate.note,
    )


def _with_match(row: Row, candidate: Candidate, rows: Sequence[Row]) -> Row:
    """The row with a note on how close its seconds are to those of its `matched_to`, if that was measured."""
    twins = [other for other in rows if other.method == "tokencache" and other.settings == candidate.matched_to]
    if not twins:
        return row
    match = match_note(twins[0].speedup / row.speedup, len(twins[0].settings["i_steps"]))
    return replace(row, note="; ".join(filter(None, (row.note, match))))


def match_note(ratio: float, i_steps: int) -> str:
    """The note on a match. The number of I-steps is whole, so the nearest one may miss the tolerance, as noted then."""
    missed = "" if abs(ratio - 1) <= MATCH_TOLERANCE else f", not within {MATCH_TOLERANCE:.0%}"
    return f"time {ratio - 1:+.1%} of tokencache with {i_steps} I-steps{missed}"


def mean_psnr(a: Tensor, b: Tensor, is_pixels: bool) -> float:
    """The mean over samples of their PSNR, in dB. a, b: (B, C, H, W)."""
    return capped_psnr(a, b, clamp=is_pixels).mean().item()
