"""The inputs of the host's KSampler, for nodes that sample as it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.samplers
from comfy.model_patcher import ModelPatcher
from torch import Tensor


@dataclass(frozen=True)
class KSamplerInputs:
    """The inputs of the host's KSampler, without its model."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    positive: list
    negative: list
    latent_image: dict[str, Any]
    denoise: float

    def sigmas(self, model: ModelPatcher) -> Tensor:
        """(steps + 1,) of KSampler's run of `model`; with some schedulers it takes more or fewer steps than `steps`."""
        sampler = comfy.samplers.KSampler(
            model, self.steps, model.load_device, self.sampler_name, self.scheduler, self.denoise, model.model_options
        )
        return sampler.sigmas


def starting_latent(model: ModelPatcher, latent_image: dict[str, Any]) -> Tensor:
    """The latent (B, C, ...) of a LATENT; an empty one gets the channels and the size that `model` needs."""
    return comfy.sample.fix_empty_latent_channels(
        model,
        latent_image["samples"],
        latent_image.get("downscale_ratio_spacial"),
        latent_image.get("downscale_ratio_temporal"),
    )
