"""Measure Redundancy: one full run of a MODEL through the host's own sampler, and what its blocks' updates say about
caching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
from torch import Tensor

from ...tokencache_core.redundancy.measure import measure_redundancy
from ...tokencache_core.redundancy.picture import redundancy_picture
from ...tokencache_core.redundancy.player import redundancy_data
from ...tokencache_core.redundancy.verdict import text
from ..families import known_family
from .compare import decoded
from .host_run import HostRun, honouring_sessions
from .ksampler_inputs import KSamplerInputs, starting_latent


@dataclass(frozen=True)
class Measured:
    """The result of a measurement.

    text: the verdict and the measurements behind it.
    chart: (1, H, W, 3) in [0, 1].
    data: for the player.
    pictures: the run's own, (P, H, W, C) in [0, 1]; None without a VAE.
    """

    text: str
    chart: Tensor
    data: dict[str, Any]
    pictures: Tensor | None


def measure(model: Any, inputs: KSamplerInputs, vae: Any = None) -> Measured:
    """Sample `inputs` in full and measure its blocks' updates; Apply TokenCache on `model` has no effect."""
    known_family(model.model.diffusion_model, "its blocks' updates cannot be measured")
    clone = honouring_sessions(model)
    sigmas, image = inputs.sigmas(clone), starting_latent(clone, inputs.latent_image)
    if image.is_nested:
        raise ValueError(
            "a latent of several parts (a video with its sound) cannot be measured: connect one of the parts"
        )
    run = HostRun(
        clone,
        inputs.positive,
        inputs.negative,
        image,
        cfg=inputs.cfg,
        sampler=comfy.samplers.sampler_object(inputs.sampler_name),
        sigmas=sigmas,
        seed=inputs.seed,
    )
    bar = comfy.utils.ProgressBar(len(sigmas) - 1)

    def on_progress(evaluations: int) -> None:
        bar.update_absolute(min(evaluations, bar.total))
        comfy.model_management.throw_exception_if_processing_interrupted()

    found = measure_redundancy(run, on_progress)
    pictures = None if vae is None else decoded(vae, clone.model.process_latent_out(found.end.cpu()))
    words = text(found)
    data = redundancy_data(found, 0 if pictures is None else len(pictures), verdict=words.split("\n", 1)[0])
    return Measured(words, redundancy_picture(found), data, pictures)
