"""A run of SamplerCustomAdvanced on a tiny model, with any guider, sampler, sigmas, latent and mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from tiny_families.tiny_model import TinyModel
from torch import Tensor


def sigmas_of(model: ModelPatcher, steps: int, scheduler: str = "simple") -> Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


def guided(
    tiny: TinyModel,
    model: ModelPatcher,
    sigmas: Tensor,
    *,
    guider: Any = None,
    sampler: str = "euler",
    latent: Tensor | None = None,
    noise: Tensor | None = None,
    mask: Tensor | None = None,
    batch: int = 1,
    cfg: float = 3.0,
    positive: Sequence | None = None,
    negative: Sequence | None = None,
) -> Tensor:
    """guider: that has its conditionings, of this model; CFGGuider if not given."""
    if guider is None:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive or tiny.positive, negative or tiny.negative)
        guider.set_cfg(cfg)
    noise = tiny.noise(batch) if noise is None else noise
    latent = torch.zeros_like(noise) if latent is None else latent
    return guider.sample(
        noise, latent, comfy.samplers.sampler_object(sampler), sigmas, denoise_mask=mask, disable_pbar=True, seed=1
    )
