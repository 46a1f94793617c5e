"""Schedules: which denoise steps are I-steps (everything computed) and which are P-steps (most tokens reused).

A schedule receives the noise times (sampling/noise_time.py) of the run's own steps, which fall. So it works with any
step count, scheduler, second pass and denoise strength. Step 0 is always an I-step.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..words.message import say
from .known_models import known_places
from .run_simulator import USUAL_FADING, Fading


class Schedule(Protocol):
    """A rule that places I-steps in any run."""

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        """Indices of the I-steps among the run's steps. taus: one per step, falling."""
        ...


def _check_interval(name: str, interval: int) -> None:
    if interval < 1:
        raise ValueError(f"{name} must be at least 1 (every step an I-step), not {interval}")


def check_count(count: int) -> None:
    """Raise ValueError unless `count` is at least 1."""
    if count < 1:
        raise ValueError(f"the number of I-steps must be at least 1, not {count}")


def _check_warmup(warmup: int) -> None:
    if warmup < 1:
        raise ValueError(f"warmup must be at least 1, since the first step has nothing to reuse, not {warmup}")


@dataclass(frozen=True)
class UniformSchedule:
    """The first `warmup` steps, then every `interval`-th."""

    interval: int = 3
    warmup: int = 2

    def __post_init__(self) -> None:
        _check_interval("interval", self.interval)
        _check_warmup(self.warmup)

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        first = min(self.warmup, len(taus)) - 1
        return frozenset({*range(first), *range(first, len(taus), self.interval)})


@dataclass(frozen=True)
class CountSchedule:
    """`count` I-steps in all, or every step if there are fewer: the first `warmup`, and the others at the best places
    for known models (schedules/known_models.py).

    fading: of the model that is run.
    """

    count: int
    warmup: int = 1
    fading: Fading = USUAL_FADING

    def __post_init__(self) -> None:
        check_count(self.count)
        _check_warmup(self.warmup)

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        return frozenset(known_places(self.count, taus, self.warmup, self.fading))


@dataclass(frozen=True)
class TwoPhaseSchedule:
    """Two-Phase Round-Robin (TokenCache's first version): one interval while tau > 1 - split, another after it."""

    first_interval: int = 3
    second_interval: int = 4
    split: float = 0.5
    warmup: int = 2

    def __post_init__(self) -> None:
        _check_interval("first_interval", self.first_interval)
        _check_interval("second_interval", self.second_interval)
        _check_warmup(self.warmup)
        if not 0.0 <= self.split <= 1.0:
            raise ValueError(f"split is the share of the time in the first phase, between 0 and 1, not {self.split}")

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        chosen, last = set(range(min(self.warmup, len(taus)))), self.warmup - 1
        for step in range(self.warmup, len(taus)):
            interval = self.first_interval if taus[step] > 1 - self.split else self.second_interval
            if step - last >= interval:
                chosen.add(step)
                last = step
        return frozenset(chosen)


@dataclass(frozen=True)
class ExplicitSchedule:
    """The listed steps, counted from 0; those beyond the end of the run are ignored."""

    steps: tuple[int, ...]

    def __post_init__(self) -> None:
        if 0 not in self.steps:
            raise ValueError(
                f"the first step has nothing to reuse: the list of I-steps must contain 0, and {list(self.steps)} "
                "does not"
            )
        if min(self.steps) < 0:
            raise ValueError(f"I-steps are counted from 0; {min(self.steps)} is not a step")

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        return frozenset(step for step in self.steps if step < len(taus))


@dataclass(frozen=True)
class PercentileSchedule:
    """I-steps at equal percentiles of the cumulative importance over tau (the paper's time-level policy).

    taus, importance: the calibrated curve, interpolated linearly. taus fall or rise; importance is >= 0.
    count: number of I-steps.
    """

    taus: tuple[float, ...]
    importance: tuple[float, ...]
    count: int

    def __post_init__(self) -> None:
        if len(self.taus) != len(self.importance) or len(self.taus) < 2:
            raise ValueError("an importance curve needs at least two points, with one importance for each tau")
        if min(self.importance) < 0 or max(self.importance) <= 0:
            raise ValueError("importance must be non-negative, and not zero everywhere")
        check_count(self.count)

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        if self.count >= len(taus):
            return frozenset(range(len(taus)))
        curve = sorted(zip(self.taus, self.importance))
        cumulative: list[float] = []
        total = 0.0
        for tau in taus:
            total += _interpolate(curve, tau)
            cumulative.append(total)
        chosen: set[int] = {0}
        for k in range(1, self.count):
            step = bisect.bisect_left(cumulative, total * k / self.count)
            free = [other for other in range(len(taus)) if other not in chosen]
            chosen.add(min(free, key=lambda other: abs(other - step)))  # a peak may span several percentiles
        return frozenset(chosen)


@dataclass(frozen=True)
class ErrorBoundSchedule:
    """I-steps placed during the run, wherever the expected error since the last one would exceed `bound`
    (schedules/error_bound.py).
    """

    bound: float

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise ValueError(f"the error bound must be a share of the latent above 0, such as 0.01, not {self.bound}")

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        """The I-steps known before the run."""
        return frozenset({0})


@dataclass(frozen=True)
class SpeedupSchedule:
    """As many I-steps as a speed-up allows.

    speedup: how many times as fast the run should be.
    placed: from a number of I-steps to the schedule that places them.
    p_step: the cost of a P-step, as a share of a full step. A run that knows it better sets it (`costing`).
    """

    speedup: float
    placed: Callable[[int], Schedule] = CountSchedule
    p_step: float = 0.0

    def __post_init__(self) -> None:
        if not self.speedup >= 1:
            raise ValueError(f"the speed-up must be at least 1, not {self.speedup:g}; on the nodes, 0 leaves it open")

    def costing(self, p_step: float) -> SpeedupSchedule:
        """The same schedule with P-steps that cost at least `p_step`."""
        return replace(self, p_step=max(self.p_step, p_step))

    def out_of_reach(self, steps: int) -> str:
        """Why a run of `steps` steps cannot be that fast; "" if it can."""
        most = steps / (1 + (steps - 1) * min(1.0, self.p_step))
        if self.speedup <= most:
            return ""
        return say(
            "speed_up_out_of_reach",
            "a speed-up of {speedup} is out of reach: {steps} steps are at most {most} times as fast, since a P-step "
            "takes {share} of a full step; ask for less, or let P-steps compute less",
            speedup=f"{self.speedup:g}",
            share=f"{self.p_step:.0%}",
            steps=steps,
            most=f"{most:.1f}",
        )

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        steps = len(taus)
        if self.speedup == 1:
            return frozenset(range(steps))
        count = round(steps * (1 / self.speedup - self.p_step) / (1 - self.p_step)) if self.p_step < 1 else 1
        return self.placed(max(1, count)).i_steps(taus)


def _interpolate(curve: list[tuple[float, float]], tau: float) -> float:
    """The value at `tau` of a curve of (tau, value), rising in tau; constant beyond its ends."""
    right = bisect.bisect_left(curve, (tau, 0.0))
    if right == 0:
        return curve[0][1]
    if right == len(curve):
        return curve[-1][1]
    (t0, y0), (t1, y1) = curve[right - 1], curve[right]
    return y0 if t1 == t0 else y0 + (y1 - y0) * (tau - t0) / (t1 - t0)
