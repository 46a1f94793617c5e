"""Sweeps one setting over several values: what each achieves, compared with the same time spent on more I-steps, with
P-steps that compute nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from ..bench.rows import mean_psnr
from ..engine.stopwatch import timed
from ..predictor.trained_parts import TrainedParts
from ..runs.cached_sampling import sample_cached
from ..runs.run import Run
from ..schedules.schedule import CountSchedule
from ..settings import DEFAULTS, CacheSettings


class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Choices = TypeVar("Choices", bound=Dataclass)


@dataclass(frozen=True)
class SweepRow:
    """The results for one value; speed-ups are by the clock, one run each, PSNR is in dB against the full run.

    compute: the share of block-tokens that are computed.
    more_i_steps: the number of I-steps of a run in about the same time whose P-steps compute nothing.
    """

    value: str
    compute: float
    speedup: float
    db: float
    more_i_steps: int
    more_i_steps_speedup: float
    more_i_steps_db: float


def variants(setting: str, values: Iterable[str], settings: Choices) -> dict[str, Choices]:
    """The settings with one of them at each of the values, by value; ValueError for an unknown setting or value.

    setting: the name of a field of `settings`, with - for _.
    settings: a dataclass.
    """
    kinds = {field.name.replace("_", "-"): type(getattr(settings, field.name)) for field in fields(settings)}
    kinds = {name: kind for name, kind in kinds.items() if kind in PARSED}
    if setting not in kinds:
        raise ValueError(f"there is no setting {setting!r}: choose one of {', '.join(kinds)}")
    try:
        return {
            value: replace(settings, **{setting.replace("-", "_"): PARSED[kinds[setting]](value)}) for value in values
        }
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"it must be yes or no, not {text!r}")
    return text == "yes"


PARSED = {bool: _yes_or_no, int: int, float: float, str: str}


def sweep(
    start: Callable[[int], Run],
    steps: int,
    tried: Iterable[tuple[str, CacheSettings, TrainedParts]],
    i_steps: int,
    is_pixels: bool,
) -> Iterator[SweepRow]:
    """A row for each of the settings.

    start: from a number of steps to a run of the same samples.
    steps: of the runs.
    tried: value, settings and trained parts of each.
    i_steps: how many of the steps are I-steps.
    """
    run = start(steps)

    def cached(
        settings: CacheSettings, count: int, learned: TrainedParts = TrainedParts()
    ) -> tuple[float, float, float]:
        (samples, report), seconds = timed(lambda: sample_cached(run, settings, CountSchedule(count), learned=learned))
        return report.compute, seconds, mean_psnr(samples, full, is_pixels)

    with torch.no_grad():  # not around the loop, in which `tried` may train
        start(2).sample()  # first calls are slow
        full, full_seconds = timed(run.sample)
    for value, settings, learned in tried:
        compute, seconds, db = cached(settings, i_steps, learned)
        count = max(2, min(steps, int(seconds / full_seconds * steps)))
        _, other_seconds, other_db = cached(DEFAULTS, count)
        yield SweepRow(value, compute, full_seconds / seconds, db, count, full_seconds / other_seconds, other_db)


def table(setting: str, rows: Iterable[SweepRow]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield f"| {setting} | compute | speed-up | PSNR | more I-steps instead | speed-up | PSNR |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row.value} | {row.compute:.3f} | {row.speedup:.2f}x | {row.db:.1f} dB "
            f"| {row.more_i_steps} | {row.more_i_steps_speedup:.2f}x | {row.more_i_steps_db:.1f} dB |"
        )
