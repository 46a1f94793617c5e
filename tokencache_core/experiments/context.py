"""Compares contexts (what computed tokens attend to): likeness to the full run, a P-step's seconds, cache memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

import torch
from torch import Tensor

from ..engine.record import Report
from ..likeness.metrics import capped_psnr
from ..runs.cached_sampling import sample_cached
from ..runs.run import Run
from ..schedules.schedule import CountSchedule, ExplicitSchedule
from ..settings import DEFAULTS, CacheSettings

ROUNDS, STEPS, I_STEPS = 3, 5, (0, 1)  # of the runs whose P-steps are timed; a forecast of order 1 needs two I-steps


@dataclass(frozen=True)
class ContextRow:
    """The comparison for one share and choice of tokens; results are by context.

    settings, compute: with the first context.
    db: mean PSNR against the full run.
    gain_db, gain_error: how much more than the first context's: mean over samples, and its standard error.
    p_step_seconds: medians of short runs, in turn.
    memory_bytes: the most that the cache kept.
    """

    settings: CacheSettings
    compute: float
    db: dict[str, float]
    gain_db: dict[str, float]
    gain_error: dict[str, float]
    p_step_seconds: dict[str, float]
    memory_bytes: dict[str, int]


def combinations(ratios: Iterable[float], scores: Iterable[str], orders: Iterable[int]) -> list[CacheSettings]:
    """The settings for all combinations, with tokens computed in every block; ValueError for invalid values."""
    return [
        replace(DEFAULTS, cache_ratio=ratio, shares="uniform", score=score, order=order)
        for ratio, score, order in product(ratios, scores, orders)
    ]


@torch.no_grad()
def compare(
    start: Callable[[int], Run],
    steps: int,
    tried: Iterable[CacheSettings],
    contexts: tuple[str, ...],
    i_steps: int,
    is_pixels: bool,
) -> Iterator[ContextRow]:
    """A row for each of the settings, with each of the contexts.

    start: from a number of steps to a run of the same samples, at least two.
    tried: the settings.
    steps, i_steps: of a run.
    """
    variants = [{context: replace(settings, context=context) for context in contexts} for settings in tried]
    run = start(steps)
    full = run.sample()

    def cached(settings: CacheSettings) -> tuple[Tensor, Report]:
        pictures, report = sample_cached(run, settings, CountSchedule(i_steps))
        return capped_psnr(pictures, full, clamp=is_pixels), report

    for by_context in variants:
        found = {context: cached(settings) for context, settings in by_context.items()}
        first, report = found[contexts[0]]
        gains = {context: psnr - first for context, (psnr, _) in found.items()}
        yield ContextRow(
            by_context[contexts[0]],
            report.compute,
            {context: psnr.mean().item() for context, (psnr, _) in found.items()},
            {context: gain.mean().item() for context, gain in gains.items()},
            {context: gain.std().item() / len(gain) ** 0.5 for context, gain in gains.items()},
            _p_step_seconds(start(STEPS), by_context),
            {context: each.memory_bytes for context, (_, each) in found.items()},
        )


def _p_step_seconds(run: Run, by_context: dict[str, CacheSettings]) -> dict[str, float]:
    seen: dict[str, list[float]] = {context: [] for context in by_context}
    for _ in range(ROUNDS):
        for context, settings in by_context.items():
            _, report = sample_cached(run, settings, ExplicitSchedule(I_STEPS))
            seen[context] += [step.seconds for step in report.steps if step.kind == "P"]
    return {context: median(seconds) for context, seconds in seen.items()}


def table(rows: Iterable[ContextRow], contexts: tuple[str, ...]) -> Iterator[str]:
    """Lines of a Markdown table; all contexts are compared with the first."""
    first, *others = contexts
    yield (
        "| r | tokens by | order | compute | "
        + " | ".join((first, *(f"{other} | gain | P-step, times | memory, times" for other in others)))
        + " |"
    )
    yield "|---" * (5 + 4 * len(others)) + "|"
    for row in rows:
        cells = [
            f"{row.db[other]:.1f} dB | {row.gain_db[other]:+.1f} +- {row.gain_error[other]:.1f} | "
            f"{row.p_step_seconds[other] / row.p_step_seconds[first]:.2f} | "
            f"{row.memory_bytes[other] / row.memory_bytes[first]:.2f}"
            for other in others
        ]
        how = f"{row.settings.cache_ratio:g} | {row.settings.score} | {row.settings.order}"
        yield f"| {how} | {row.compute:.3f} | " + " | ".join((f"{row.db[first]:.1f} dB", *cells)) + " |"
