"""Compare with and without TokenCache: samples the same seed with the plain model and then the cached one, and times
both.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...tokencache_core.engine.stopwatch import timed
from ...tokencache_core.likeness.comparison import Comparison, likeness
from ...tokencache_core.reporting.advice import advice
from .ksampler_inputs import KSamplerInputs, starting_latent
from .model_hooks import handle_of, without_tokencache
from .network_call import NO_CALIBRATION
from .report_handle import ReportHandle

WARM_UP = 5  # steps, both I and P, so that neither run pays for loading, compiling or first allocations
MAX_PAIRS = 32  # pairs of pictures on the page; of a longer video, evenly spaced ones


def compare(model: ModelPatcher, vae: Any, inputs: KSamplerInputs) -> tuple[Tensor, Tensor, Comparison]:
    """The pictures (P, H, W, C) in [0, 1] without and with TokenCache, and the comparison.

    model: the MODEL from Apply TokenCache; ValueError for any other.
    vae: decodes both results.
    inputs: of both runs.
    """
    handle = handle_of(model)
    if handle is None:
        raise ValueError("there is nothing to compare: connect the MODEL that comes from Apply TokenCache")
    plain = without_tokencache(model)
    progress = _Progress(plain, _steps(plain, inputs))
    plain_latent, plain_seconds = _timed_run(plain, inputs, progress, handle)
    cached_latent, cached_seconds = _timed_run(model, inputs, progress, handle)
    if handle.latest().teaches:  # that run was computed in full to calibrate; the next one is not
        cached_latent, cached_seconds = timed(lambda: _sample(model, inputs, progress))
    report = handle.latest()  # advised on by itself: the comparison judges the two times
    handle.measured(plain_seconds, cached_seconds)
    pictures, cached_pictures = decoded(vae, plain_latent), decoded(vae, cached_latent)
    psnr, ssim = likeness(pictures, cached_pictures)
    return (
        pictures,
        cached_pictures,
        Comparison(
            plain_seconds,
            cached_seconds,
            psnr,
            ssim,
            compute=report.compute,
            kinds="".join(step.kind for step in report.steps),
            warnings=(*report.notes, *advice(report)),
        ),
    )


def decoded(vae: Any, latent: Tensor) -> Tensor:
    """The pictures (P, H, W, C) of a latent, as VAE Decode makes them; a video's frames follow each other."""
    pictures = vae.decode(latent.unbind()[0] if latent.is_nested else latent)
    return pictures.reshape(-1, *pictures.shape[-3:])


def shown_pairs(
    comparison: Comparison, plain: Tensor, cached: Tensor, save: Callable[[Tensor], Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """The comparison's data and picture files, for the page.

    plain, cached: (P, H, W, C) in [0, 1].
    save: writes pictures (n, H, W, C) to n files and returns their descriptions for the page.
    """
    shown = sorted({round(index) for index in torch.linspace(0, len(plain) - 1, min(len(plain), MAX_PAIRS)).tolist()})
    data = comparison.data()
    for values in ("psnr", "ssim"):
        data[values] = [data[values][index] for index in shown]
    files = [{"plain": left, "cached": right} for left, right in zip(save(plain[shown]), save(cached[shown]))]
    means = {
        "mean_psnr": None if math.isinf(comparison.mean_psnr) else round(comparison.mean_psnr, 2),
        "mean_ssim": round(comparison.mean_ssim, 4),
    }
    return {**data, **means, "pictures": files}


def _steps(model: ModelPatcher, inputs: KSamplerInputs) -> int:
    """The number of steps of a run; ValueError if there are none."""
    sigmas = inputs.sigmas(model)
    if len(sigmas) < 2:
        raise ValueError(f"there is nothing to sample with denoise {inputs.denoise:g}: raise it")
    return len(sigmas) - 1


def _timed_run(
    model: ModelPatcher, inputs: KSamplerInputs, progress: _Progress, handle: ReportHandle
) -> tuple[Tensor, float]:
    """The latent, and the seconds of the whole sampling run, after a warm-up."""
    warm_up, reports = min(WARM_UP, progress.steps), tuple(handle.reports)
    logging.info(f"TokenCache comparison: {warm_up} steps to warm up, which do not count")
    timed(lambda: _sample(_not_calibrating(model), inputs, progress, warm_up))
    handle.reports.clear()
    handle.reports.extend(reports)  # without the warm-up's
    progress.advance(warm_up)
    result = timed(lambda: _sample(model, inputs, progress))
    progress.advance(progress.steps)
    return result


def _not_calibrating(model: ModelPatcher) -> ModelPatcher:
    """A clone whose runs do not calibrate."""
    clone = model.clone()
    clone.model_options["transformer_options"][NO_CALIBRATION] = True
    return clone


def _sample(model: ModelPatcher, inputs: KSamplerInputs, callback: Callable, last_step: int | None = None) -> Tensor:
    """The latent, sampled as KSampler does. last_step: the step at which to stop; None: the last one."""
    latent, image = inputs.latent_image, starting_latent(model, inputs.latent_image)
    noise = comfy.sample.prepare_noise(image, inputs.seed, latent.get("batch_index"))
    return comfy.sample.sample(
        model,
        noise,
        inputs.steps,
        inputs.cfg,
        inputs.sampler_name,
        inputs.scheduler,
        inputs.positive,
        inputs.negative,
        image,
        denoise=inputs.denoise,
        last_step=last_step,
        noise_mask=latent.get("noise_mask"),
        callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=inputs.seed,
    )


class _Progress:
    """One progress bar over both runs and their warm-ups, with the host's previews.

    It is called by the sampler after every step, and raises the host's interrupts.

    steps: of one run.
    """

    def __init__(self, model: ModelPatcher, steps: int) -> None:
        self.steps, self.done = steps, 0
        self.total = 2 * (steps + min(WARM_UP, steps))
        self.bar = comfy.utils.ProgressBar(self.total)
        self.previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def __call__(self, step: int, clean: Tensor, x: Tensor, steps: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        preview = None
        if self.previewer:
            first = clean.tensors[0] if clean.is_nested else clean  # pyright: ignore[reportAttributeAccessIssue]
            preview = self.previewer.decode_latent_to_preview_image("JPEG", first)
        self.bar.update_absolute(self.done + step + 1, self.total, preview)

    def advance(self, steps: int) -> None:
        self.done += steps
