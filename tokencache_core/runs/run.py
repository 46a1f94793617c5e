"""A sampling run of any model, as everything that needs no more than to run it knows it: training, tuning, calibrating,
measuring.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ..engine.session import Session
from ..engine.token_choice import Planner
from ..sampling.samplers import Denoise
from ..schedules.schedule import Schedule
from ..settings import CacheSettings

HELD_OUT_SEEDS = 1_000_000  # where runs are drawn from seeds, those from here on are for measuring alone


class Run(Protocol):
    """One sampling run of some model, ready to start: a `dit.run.DiTRun`, or a host's."""

    sigmas: Tensor  # (steps + 1,), the last one 0
    images: int  # samples in its batch

    @property
    def euler(self) -> bool: ...  # its sampler is Euler's method, whose P-steps the corrector can correct

    def open_session(
        self,
        settings: CacheSettings,
        schedule: Schedule,
        *,
        planner: Planner | None = None,
        learned: LearnedParts = NOTHING_LEARNED,
    ) -> Session: ...

    def cached(self, session: Session) -> AbstractContextManager[None]: ...

    def sample(self, around: Callable[[Denoise], Denoise]) -> Tensor: ...

    def noise_time(self, sigma: float) -> float: ...  # of the run's own sigmas (sampling/noise_time.py)


@dataclass(frozen=True)
class PlainRun:
    """Where the plain model's run went, on the CPU: x (B, ...) at each evaluation, and the last clean x that it
    predicted, where it ends.
    """

    states: tuple[Tensor, ...]
    end: Tensor


def sample_plain(run: Run) -> PlainRun:
    states: list[Tensor] = []
    clean = None

    def around(denoise: Denoise) -> Denoise:
        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal clean
            states.append(x.to("cpu", copy=True))
            clean = denoise(x, sigma)
            return clean

        return watched

    with torch.no_grad():
        run.sample(around)
    return PlainRun(tuple(states), clean.to("cpu", copy=True))


def sigma_after(sigma: float, sigmas: list[float]) -> float:
    """Where the step that is evaluated at `sigma` leads: the next of a run's falling `sigmas`."""
    return next((other for other in sigmas if other < sigma * (1 - 1e-4)), 0.0)
