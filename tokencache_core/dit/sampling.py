"""Sampling a DiT without a host: in full, and with token caching."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ..engine.record import Report
from ..engine.token_choice import Planner
from ..runs.cached_sampling import sample_cached
from ..sampling.samplers import SOLVERS
from ..schedules.schedule import Schedule
from ..settings import CacheSettings
from .guidance import NoisePredictor, guided_denoiser
from .model import DiT
from .run import DiTRun


@torch.no_grad()
def sample(
    model: NoisePredictor,
    labels: Tensor,
    *,
    noise: Tensor,
    sigmas: Tensor,
    cfg: float = 4.0,
    solver: str = "ddim",
    transformer_options: dict | None = None,
) -> Tensor:
    """Pictures or latents (B, C, H, W).

    labels: (B,) class labels.
    noise: (B, C, H, W), to start from (see `starting_noise`).
    sigmas: (steps + 1,), always on the CPU, so that no step waits for a GPU to read its sigma.
    cfg: the guidance scale.
    solver: one of SOLVERS.
    transformer_options: passed to the network.
    """
    denoise = guided_denoiser(model, labels, cfg, transformer_options)
    return SOLVERS[solver](denoise, noise, sigmas)


def cached_sample(
    model: DiT,
    labels: Tensor,
    *,
    noise: Tensor,
    sigmas: Tensor,
    cfg: float = 4.0,
    solver: str = "ddim",
    settings: CacheSettings,
    schedule: Schedule,
    planner: Planner | None = None,
    learned: LearnedParts = NOTHING_LEARNED,
) -> tuple[Tensor, Report]:
    """`sample` with token caching: pictures or latents (B, C, H, W), and the report of the run.

    settings, schedule: of the cache.
    planner: chooses the tokens that P-steps compute; None: as the settings say.
    learned: the parts that were trained for the model.
    """
    run = DiTRun(model, labels, noise=noise, sigmas=sigmas, cfg=cfg, solver=solver)
    return sample_cached(run, settings, schedule, planner=planner, learned=learned)
