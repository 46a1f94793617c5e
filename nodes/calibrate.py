"""Calibrate I-Steps: the core's calibration over runs of the host's own sampler."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ..tokencache_core.calibration import calibrate, variance_exploding
from ..tokencache_core.fingerprint import fingerprint_of
from ..tokencache_core.schedule import UniformSchedule
from ..tokencache_core.settings import CacheSettings
from ..tokencache_core.trained_cache import TrainedCache
from .families import family_of
from .host_run import HostRun, honouring_sessions
from .model_hooks import tau_function


def calibrate_model(
    model: ModelPatcher, positive: list, negative: list, latent: torch.Tensor, *, scheduler: str, steps: int, cfg: float, runs: int,
    predictor: TrainedCache | None,
) -> TrainedCache:
    """The predictor, or one that holds nothing else, with the importance of each time, from `runs` whole runs of `latent`'s shape.

    Runs are Euler's, which evaluates the model once a step: what is measured is how the model changes with time.
    """
    network = model.model.diffusion_model
    family = family_of(network)
    if family is None:
        raise ValueError(f"TokenCache does not know {type(network).__name__} yet: it runs uncached, and there is nothing to calibrate")
    fingerprint = fingerprint_of(family.name, [block for block, _ in family.blocks(network)])
    if predictor is None:
        predictor = TrainedCache(settings=CacheSettings(), interval=UniformSchedule().interval, fingerprint=fingerprint)
    else:
        predictor.fingerprint.compare(fingerprint)
    clone = honouring_sessions(model)
    sampling = clone.get_model_object("model_sampling")
    sigmas, euler = comfy.samplers.calculate_sigmas(sampling, scheduler, steps), comfy.samplers.sampler_object("euler")
    bar = comfy.utils.ProgressBar(runs)

    def run(seed: int) -> HostRun:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(seed)
        return HostRun(clone, positive, negative, latent, cfg=cfg, sampler=euler, sigmas=sigmas, seed=seed)

    is_flow = isinstance(sampling, comfy.model_sampling.CONST)
    calibration = calibrate(
        map(run, range(runs)), tau_function(clone), predictor.settings.order,
        scale=(lambda sigma: 1.0) if is_flow else variance_exploding,
    )
    return replace(predictor, calibration=calibration)
