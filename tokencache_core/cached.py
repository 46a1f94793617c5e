"""Cached sampling without a host: of our own DiT, or of any run."""

from __future__ import annotations

import torch
from torch import Tensor

from .distill import Run
from .dit import DiT
from .dit_run import DiTRun
from .learned import Learned
from .plan import Planner
from .report import Report
from .sampling import Denoise
from .schedule import Schedule
from .settings import CacheSettings


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
    """`sampling.sample` with token caching: pictures or latents (B, C, H, W), and what the cache did."""
    run = DiTRun(model, labels, noise=noise, sigmas=sigmas, cfg=cfg, solver=solver)
    return sample_cached(run, settings, schedule, planner=planner, learned=learned)
