"""Cached sampling without a host: of our own DiT, or of any run."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine.record import Report
from ..engine.token_choice import Planner
from ..predictor.trained_parts import Learned
from ..sampling.samplers import Denoise
from ..schedules.schedule import Schedule
from ..settings import CacheSettings
from ..training.window_loss import Run
from .model import DiT
from .run import DiTRun


@torch.no_grad()
def sample_cached(
    run: Run, settings: CacheSettings, schedule: Schedule, *, planner: Planner | None = None, learned: Learned = Learned(),
) -> tuple[Tensor, Report]:
    """The run's samples (B, ...) with token caching, and what the cache did."""
    session = run.open_session(settings, schedule, planner=planner, learned=learned)

    def around(denoise: Denoise) -> Denoise:
        def cached_denoise(x: Tensor, sigma: Tensor) -> Tensor:
            with session.evaluation(float(sigma)), run.cached(session):
                clean = denoise(x, sigma)
            return session.corrected(x, clean)
        return cached_denoise

    return run.sample(around), session.close()


def cached_sample(
    model: DiT, labels: Tensor, *, noise: Tensor, sigmas: Tensor, cfg: float = 4.0, solver: str = "ddim",
    settings: CacheSettings, schedule: Schedule, planner: Planner | None = None, learned: Learned = Learned(),
) -> tuple[Tensor, Report]:
    """`sampling.samplers.sample` with token caching: pictures or latents (B, C, H, W), and what the cache did."""
    run = DiTRun(model, labels, noise=noise, sigmas=sigmas, cfg=cfg, solver=solver)
    return sample_cached(run, settings, schedule, planner=planner, learned=learned)
