"""DiT's noise schedule: linear betas from 1e-4 to 0.02 over 1,000 steps (Ho et al. 2020, arXiv 2006.11239).

Sampling runs in the variance-exploding form of Karras et al. (arXiv 2206.00364), as ComfyUI does:
x = x0 + sigma * noise, and the network sees x / sqrt(sigma^2 + 1).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

TRAIN_STEPS = 1000


@lru_cache(maxsize=1)
def alphas_cumprod() -> Tensor:
    """(1000,) float64: the share of the picture's variance that is left at each timestep."""
    betas = torch.linspace(1e-4, 0.02, TRAIN_STEPS, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0)


@lru_cache(maxsize=1)
def train_sigmas() -> Tensor:
    """(1000,) float32: the sigma of each timestep, rising."""
    kept = alphas_cumprod()
    return ((1 - kept) / kept).sqrt().float()


@lru_cache(maxsize=1)
def _log_sigmas() -> Tensor:
    return train_sigmas().log()


def timestep_of(sigma: Tensor) -> Tensor:
    """The training timestep (a float tensor of sigma's shape, values 0..999) nearest to sigma in log scale.

    The network is only evaluated at these, since it was trained on no others; ComfyUI does the same.
    """
    distance = (sigma.float().reshape(-1, 1).log() - _log_sigmas().to(sigma.device)).abs()
    return distance.argmin(dim=1).reshape(sigma.shape).float()


def simple_sigmas(steps: int) -> Tensor:
    """(steps + 1,) falling sigmas, evenly spaced in time, from the largest to zero (ComfyUI's `simple` scheduler)."""
    if not 1 <= steps <= TRAIN_STEPS:
        raise ValueError(f"steps must lie between 1 and {TRAIN_STEPS}, not {steps}")
    index = [-(1 + int(i * TRAIN_STEPS / steps)) for i in range(steps)]
    return torch.cat([train_sigmas()[index], torch.zeros(1)])
