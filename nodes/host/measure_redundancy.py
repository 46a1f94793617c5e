"""Measure Redundancy: one whole run of a MODEL through the host's own sampler, and what its blocks' updates say of
caching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
from torch import Tensor

from ...tokencache_core.redundancy.measure import measure_redundancy
from ...tokencache_core.redundancy.picture import redundancy_picture
from ...tokencache_core.redundancy.player import redundancy_data
from ...tokencache_core.redundancy.verdict import text
from ..families import known_family
from .compare import KSamplerInputs, decoded
from .host_run import HostRun, honouring_sessions


@dataclass(frozen=True)
class Measured:
    """text: the verdict and what it rests on. chart: (1, H, W, 3). data: for the player. pictures: the run's own, where
    there is a VAE.
    """

    text: str
    chart: Tensor
    data: dict[str, Any]
    pictures: Tensor | None


def measure(model: Any, inputs: KSamplerInputs, vae: Any = None) -> Measured:
    """Sample `inputs` whole; an Apply TokenCache before it has no effect."""
    known_family(model.model.diffusion_model, "its blocks' updates cannot be told from the rest")
    clone = honouring_sessions(model)
    sampler = comfy.samplers.KSampler(
        clone,
        inputs.steps,
        clone.load_device,
        inputs.sampler_name,
        inputs.scheduler,
        inputs.denoise,
        clone.model_options,
    )
    latent = inputs.latent_image
    image = comfy.sample.fix_empty_latent_channels(
        clone, latent["samples"], latent.get("downscale_ratio_spacial"), latent.get("downscale_ratio_temporal")
    )
    if image.is_nested:
        raise ValueError("a latent of several parts (a video with its sound) cannot be measured: give one of them")
    run = HostRun(
        clone,
        inputs.positive,
        inputs.negative,
        image,
        cfg=inputs.cfg,
        sampler=comfy.samplers.sampler_object(inputs.sampler_name),
        sigmas=sampler.sigmas,
        seed=inputs.seed,
    )
    bar = comfy.utils.ProgressBar(len(sampler.sigmas) - 1)

    def on_progress(evaluations: int) -> None:
        bar.update_absolute(min(evaluations, bar.total))
        comfy.model_management.throw_exception_if_processing_interrupted()

    found = measure_redundancy(run, on_progress)
    pictures = None if vae is None else decoded(vae, clone.model.process_latent_out(found.end.cpu()))
    words = text(found)
    data = redundancy_data(found, 0 if pictures is None else len(pictures), verdict=words.split("\n", 1)[0])
    return Measured(words, redundancy_picture(found), data, pictures)
