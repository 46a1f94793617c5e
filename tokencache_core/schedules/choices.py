"""The schedule that a node's widgets, or a command's options, ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..files.strict_json import shown
from .automatic import AutomaticSchedule
from .schedule import (
    CountSchedule,
    ErrorBoundSchedule,
    ExplicitSchedule,
    Schedule,
    SpeedupSchedule,
    TwoPhaseSchedule,
    UniformSchedule,
)

POLICIES = ("automatic", "uniform", "count", "two-phase", "explicit", "percentile", "error-bound")


def schedule_from_choices(
    policy: str,
    interval: int,
    second_interval: int,
    split: float,
    warmup: int,
    steps: str,
    count: int,
    speedup: float,
    error_bound: float,
    percentiles: Callable[[int], Schedule] | None = None,
    p_step: float = 0.0,
) -> Schedule:
    """The schedule that `policy`, one of POLICIES, names; ValueError, which says what to set, for choices that do not
    fit it.

    interval, second_interval, split, warmup: as in the schedules that take them.
    steps: the steps of the explicit policy, as text: "0, 3, 6".
    count: number of I-steps; 0, the usual number, only with the automatic policy.
    speedup: replaces count if it is not 0.
    error_bound: of the error-bound policy.
    percentiles, p_step: from a predictor, if there is one.
    """
    if policy == "automatic":
        return AutomaticSchedule(count, speedup, p_step=p_step)
    if policy == "uniform":
        return UniformSchedule(interval, warmup)
    if policy == "two-phase":
        return TwoPhaseSchedule(interval, second_interval, split, warmup)
    if policy == "explicit":
        return ExplicitSchedule(parse_steps(steps))
    if policy == "error-bound":
        return ErrorBoundSchedule(error_bound)
    if policy == "percentile" and percentiles is None:
        raise ValueError("policy percentile places I-steps by a predictor's calibration: connect Load Cache Predictor")
    if policy not in ("count", "percentile"):
        raise ValueError(f"policy must be {', '.join(POLICIES[:-1])} or {POLICIES[-1]}, not {policy!r}")
    if not count and not speedup:
        raise ValueError(
            f"policy {policy} takes a number of I-steps, 1 or more: set count, or speed_up; 0, the usual number, is "
            "only for policy automatic"
        )
    placed: Callable[[int], Schedule] = partial(CountSchedule, warmup=warmup)
    if percentiles is not None and policy == "percentile":
        placed = percentiles
    by_count = placed(count or 1)  # fails if the predictor is not calibrated
    return SpeedupSchedule(speedup, placed, p_step) if speedup else by_count


def parse_steps(text: str) -> tuple[int, ...]:
    """Step numbers from "0, 3, 6"."""
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(
            f"I-steps are whole numbers separated by commas, such as 0, 3, 6; {shown(text)} is not"
        ) from None
