"""Classifier-free guidance for a class-conditional DiT."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..sampling.noise_schedule import timestep_of
from ..sampling.samplers import Denoise
from .model import DiTConfig


class NoisePredictor(Protocol):
    """A class-conditional network that predicts the noise in x (B, C, H, W): a DiT, or a wrapper of one."""

    config: DiTConfig
    dtype: torch.dtype

    def __call__(self, x: Tensor, t: Tensor, y: Tensor, *, transformer_options: dict | None = None) -> Tensor: ...


def guided_denoiser(
    model: NoisePredictor, labels: Tensor, cfg: float, transformer_options: dict | None = None
) -> Denoise:
    """A denoiser: the model under classifier-free guidance (arXiv 2207.12598) on all channels.

    The rows of a network call are those of the labels, followed, unless cfg is 1, by those of the null class.

    labels: (B,) long.
    cfg: the guidance scale.
    transformer_options: passed to the network.
    """
    null = torch.full_like(labels, model.config.num_classes)
    rows = labels if cfg == 1.0 else torch.cat([labels, null])

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        # `noise_time.unit_variance` in tensors, whose rounding differs
        scaled = (x / (sigma**2 + 1).sqrt()).to(model.dtype).repeat(len(rows) // len(labels), 1, 1, 1)
        t = torch.full((len(rows),), float(timestep_of(sigma)), device=x.device)
        eps = model(scaled, t, rows, transformer_options=transformer_options).to(x.dtype)
        if cfg != 1.0:
            positive, negative = eps.chunk(2)
            eps = negative + cfg * (positive - negative)
        return x - sigma * eps

    return denoise
