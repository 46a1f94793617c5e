"""The conditions of a sampling run that only the host knows, for the advice in its report."""

from __future__ import annotations

import time
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_execution.utils import get_executing_context

from ...tokencache_core.engine.record import RunConditions
from .sampler_kind import sampler_name
from .sampler_noise import adds_noise


def run_conditions(patcher: ModelPatcher, sampler: Any, steps: int, trained_on: tuple[int, ...]) -> RunConditions:
    """The conditions of one run.

    patcher, sampler, steps: of the run.
    trained_on: the size of the latents that the run's predictor was trained on; empty without one.
    """
    context = get_executing_context()
    return RunConditions(
        steps=steps,
        sampler=sampler_name(sampler),
        fresh_noise=adds_noise(sampler),
        trained_on=trained_on,
        model_size=getattr(patcher.model.diffusion_model, "trained_size", ()),
        pixels=patcher.model.latent_format.spacial_downscale_ratio,
        prompt="" if context is None else context.prompt_id,
        node="" if context is None else context.node_id,
        item=0 if context is None else context.list_index or 0,
        finished=time.strftime("%H:%M:%S"),
    )
