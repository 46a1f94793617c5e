"""The interface of a sampling run of any model, as used by training, tuning, calibration and measurements."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ..engine.session import Session
from ..engine.timeline import SAME_STEP
from ..engine.token_choice import Planner
from ..sampling.samplers import Denoise
from ..schedules.run_simulator import Fading
from ..schedules.schedule import Schedule
from ..settings import CacheSettings

HELD_OUT_SEEDS = 1_000_000  # seeds from this one on are used only for measuring, never for training


class Run(Protocol):
    """One sampling run of some model, ready to start: a `dit.run.DiTRun`, or a host's run."""

    sigmas: Tensor  # (steps + 1,), the last one is 0
    images: int  # number of samples in its batch

    @property
    def fading(self) -> Fading:
        """How errors in its x fade, as in `schedules.run_simulator.RunSimulator`."""
        ...

    @property
    def euler(self) -> bool:
        """Whether its sampler is Euler's method, for which the corrector works."""
        ...

    def open_session(
        self,
        settings: CacheSettings,
        schedule: Schedule,
        *,
        planner: Planner | None = None,
        learned: LearnedParts = NOTHING_LEARNED,
    ) -> Session:
        """Open a session for this run, as in `engine.session.open_session`."""
        ...

    def cached(self, session: Session) -> AbstractContextManager[None]:
        """While active, the model's network runs under `session`."""
        ...

    def sample(self, around: Callable[[Denoise], Denoise] = ...) -> Tensor:
        """Sample the run; returns the samples (B, ...). around: wraps the model's denoiser."""
        ...

    def noise_time(self, sigma: float) -> float:
        """The noise time (sampling/noise_time.py) of one of the run's own sigmas."""
        ...

    def input_scale(self, sigma: float) -> float:
        """What x at `sigma` is multiplied by before the network is given it, so that its variance is about 1."""
        ...


@dataclass(frozen=True)
class PlainRun:
    """The trajectory of a run without the cache, on the CPU.

    states: x (B, ...) at each evaluation.
    end: the last clean x that was predicted, (B, ...).
    """

    states: tuple[Tensor, ...]
    end: Tensor


def sample_plain(run: Run) -> PlainRun:
    """Sample a run without the cache, and record its trajectory."""
    states: list[Tensor] = []
    end: list[Tensor] = []  # the last prediction

    def around(denoise: Denoise) -> Denoise:
        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            states.append(x.to("cpu", copy=True))
            clean = denoise(x, sigma)
            end[:] = [clean]
            return clean

        return watched

    with torch.no_grad():
        run.sample(around)
    return PlainRun(tuple(states), end[0].to("cpu", copy=True))


def sigma_after(sigma: float, sigmas: list[float]) -> float:
    """The sigma at the end of the step that is evaluated at `sigma`: the next of a run's falling `sigmas`, or 0."""
    return next((other for other in sigmas if other < sigma * (1 - SAME_STEP)), 0.0)
