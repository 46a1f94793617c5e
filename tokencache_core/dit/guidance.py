"""Classifier-free guidance for a class-conditional DiT."""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampling.noise_schedule import timestep_of
from ..sampling.samplers import Denoise
from .model import DiT


def guided_denoiser(model: DiT, labels: Tensor, cfg: float, transformer_options: dict | None = None) -> Denoise:
    """Denoise by the DiT under classifier-free guidance (arXiv 2207.12598) at scale `cfg` on every channel.

    Rows of a call: the labels' predictions first, then, unless cfg is 1, the null class's. labels: (B,) long.
    """
    null = torch.full_like(labels, model.config.num_classes)
    rows = labels if cfg == 1.0 else torch.cat([labels, null])

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        scaled = (x / (sigma**2 + 1).sqrt()).to(model.dtype).repeat(len(rows) // len(labels), 1, 1, 1)
        t = torch.full((len(rows),), float(timestep_of(sigma)), device=x.device)
        eps = model(scaled, t, rows, transformer_options=transformer_options).to(x.dtype)
        if cfg != 1.0:
            positive, negative = eps.chunk(2)
            eps = negative + cfg * (positive - negative)
        return x - sigma * eps

    return denoise
