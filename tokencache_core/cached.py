"""Cached sampling of our own DiT, without a host."""

from __future__ import annotations

import torch
from torch import Tensor

from .attention import OVERRIDE_KEY
from .block_spec import BlockSpec
from .dit import DiT
from .forward import cached_blocks
from .noise_schedule import TRAIN_STEPS, timestep_of
from .plan import Planner
from .report import Report
from .sampling import SOLVERS, guided_denoiser
from .schedule import Schedule
from .session import Session
from .settings import CacheSettings

DIT_BLOCK = BlockSpec(tokens="x")


def dit_tau(sigma: float) -> float:
    """The DiT's timestep at sigma, scaled to [0, 1]."""
    return float(timestep_of(torch.tensor(sigma))) / (TRAIN_STEPS - 1)


@torch.no_grad()
def cached_sample(
    model: DiT, labels: Tensor, *, noise: Tensor, sigmas: Tensor, cfg: float = 4.0, solver: str = "ddim",
    settings: CacheSettings, schedule: Schedule, planner: Planner | None = None,
) -> tuple[Tensor, Report]:
    """`sampling.sample` with token caching: pictures or latents (B, C, H, W), and what the cache did."""
    session = Session(
        settings, schedule, sigmas=sigmas[:-1].tolist(), tau=dit_tau,
        streams=tuple(DIT_BLOCK.stream for _ in model.blocks), device=noise.device, planner=planner,
    )
    options: dict = {}
    denoise = guided_denoiser(model, labels, cfg, options)
    blocks = [(block, DIT_BLOCK) for block in model.blocks]

    def cached_denoise(x: Tensor, sigma: Tensor) -> Tensor:
        with (
            session.evaluation(float(sigma)),
            cached_blocks(session, blocks, key="rows", images=len(labels), telescopes=True) as forward,
        ):
            options[OVERRIDE_KEY] = forward.attention
            return denoise(x, sigma)

    return SOLVERS[solver](cached_denoise, noise, sigmas), session.close()
