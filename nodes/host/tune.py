"""Tune TokenCache: the core's tuner on runs through the host's own sampler."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ...tokencache_core.tuning.preset import Goal, Preset, save_preset
from ...tokencache_core.tuning.progress import TuningProgress
from ...tokencache_core.tuning.search_space import space
from ...tokencache_core.tuning.tuner import GoalOutOfReach, Tuner
from ..families import known_family
from .host_run import HostRun, honouring_sessions
from .language import in_users_language
from .model_fingerprint import model_fingerprint
from .model_sampling import usual_fading
from .node_text import tell_written
from .progress_on_page import ProgressOnPage
from .sampler_kind import is_euler

TUNING: ProgressOnPage[TuningProgress] = ProgressOnPage("tuning")


def tune(
    model: ModelPatcher,
    positive: list,
    negative: list,
    latent: torch.Tensor,
    goal: Goal,
    *,
    sampler_name: str,
    scheduler: str,
    steps: int,
    cfg: float,
    minutes: float,
    file: Path,
    workflow: str = "",
) -> Preset:
    """Tune on runs of the host's sampler; after an interrupt, the best found so far is written all the same.

    positive, negative, sampler_name, scheduler, steps, cfg: of the runs, as for KSampler.
    latent: the runs' latents have its shape.
    goal: to reach; GoalOutOfReach if no choice does.
    minutes: the time that it may take.
    file: the preset is written there.
    workflow: the id of the page's workflow, whose node shows the progress.
    """
    network = model.model.diffusion_model
    family = known_family(network, "it runs uncached, and there is nothing to tune")
    clone = honouring_sessions(model)
    blocks = [block for block, _ in family.blocks(network)]
    sigmas = comfy.samplers.calculate_sigmas(clone.get_model_object("model_sampling"), scheduler, steps)

    def start(seed: int) -> HostRun:
        sampler = comfy.samplers.sampler_object(sampler_name)
        return HostRun(clone, positive, negative, latent, cfg=cfg, sampler=sampler, sigmas=sigmas, seed=seed)

    bar = comfy.utils.ProgressBar(1000)

    def progress(share: float) -> None:
        bar.update_absolute(round(1000 * share))
        comfy.model_management.throw_exception_if_processing_interrupted()

    is_pixels = model.model.latent_format.latent_channels == 3
    tuner = Tuner(
        start,
        goal,
        space(len(blocks), is_euler(comfy.samplers.sampler_object(sampler_name)), usual_fading(model)),
        minutes=minutes,
        is_pixels=is_pixels,
        log=lambda line: logging.info(f"TokenCache tuning: {line}"),
        progress=progress,
    )
    conditions: dict[str, Any] = {
        "sampler": sampler_name,
        "scheduler": scheduler,
        "cfg": f"{cfg:g}",
        "latent": tuple(latent.shape),
        "model": type(network).__name__,
        "device": comfy.model_management.get_torch_device_name(clone.load_device),
        "torch": torch.__version__,
    }
    try:
        with TUNING.of(lambda node: TuningProgress(node, workflow)) as on_page:
            tuner.on_change = lambda: _tell(on_page, tuner)
            tuner.tune()
    except GoalOutOfReach as error:
        raise GoalOutOfReach(in_users_language(error.args[0])) from None
    finally:  # an interrupt arrives as an exception
        preset = tuner.preset(model_fingerprint(model), {name: str(value) for name, value in conditions.items()})
        if preset is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            save_preset(preset, file)
            tell_written(file)
            logging.info(preset.text())
    assert preset is not None  # `tune` raises if it finds none
    return preset


def _tell(on_page: TuningProgress, tuner: Tuner) -> None:
    on_page.take(tuner)
    TUNING.tell()
