"""Compares forecasting a model's output as a whole with forecasting its blocks' updates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from ..bench.rows import mean_psnr
from ..engine.record import Report
from ..runs.cached_sampling import sample_cached
from ..runs.output_run import OutputRun
from ..runs.run import Run
from ..schedules.schedule import CountSchedule
from ..settings import DEFAULTS


@dataclass(frozen=True)
class OutputRow:
    """The comparison for one number of I-steps.

    blocks_db, output_db, fewer_db: mean PSNR to the full run: by either forecast, and of as many full steps.
    blocks_seconds, output_seconds: median of a P-step.
    """

    i_steps: int
    blocks_db: float
    output_db: float
    fewer_db: float
    blocks_seconds: float
    output_seconds: float


def compare(start: Callable[[int], Run], steps: int, counts: Iterable[int], is_pixels: bool) -> Iterator[OutputRow]:
    """A row for each number of I-steps. start: from a number of steps to a run of the same samples."""
    run = start(steps)
    full = run.sample()

    def cached(run: Run, count: int) -> tuple[float, float]:
        samples, report = sample_cached(run, DEFAULTS, CountSchedule(count))
        return mean_psnr(samples, full, is_pixels), _p_step_seconds(report)

    for count in counts:
        (blocks_db, blocks_seconds), (output_db, output_seconds) = cached(run, count), cached(OutputRun(run), count)
        fewer: Tensor = start(count).sample()
        yield OutputRow(count, blocks_db, output_db, mean_psnr(fewer, full, is_pixels), blocks_seconds, output_seconds)


def _p_step_seconds(report: Report) -> float:
    return median(step.seconds for step in report.steps if step.kind == "P")


def table(rows: Iterable[OutputRow]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield "| I-steps | blocks | output | as many full steps | P-step, blocks | P-step, output |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row.i_steps} | {row.blocks_db:.1f} dB | {row.output_db:.1f} dB | {row.fewer_db:.1f} dB "
            f"| {1000 * row.blocks_seconds:.2f} ms | {1000 * row.output_seconds:.2f} ms |"
        )
