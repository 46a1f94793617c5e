"""Sampling of any run with token caching."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ..engine.record import Report
from ..engine.token_choice import Planner
from ..sampling.samplers import Denoise
from ..schedules.schedule import Schedule
from ..settings import CacheSettings
from .run import Run


@torch.no_grad()
def sample_cached(
    run: Run,
    settings: CacheSettings,
    schedule: Schedule,
    *,
    planner: Planner | None = None,
    learned: LearnedParts = NOTHING_LEARNED,
) -> tuple[Tensor, Report]:
    """Sample a run with token caching; returns the samples (B, ...) and the report.

    planner, learned: as in `engine.session.open_session`.
    """
    session = run.open_session(settings, schedule, planner=planner, learned=learned)

    def around(denoise: Denoise) -> Denoise:
        def cached_denoise(x: Tensor, sigma: Tensor) -> Tensor:
            with session.evaluation(float(sigma), x), run.cached(session):
                clean = denoise(x, sigma)
            return session.corrected(x, clean)

        return cached_denoise

    return run.sample(around), session.close()
