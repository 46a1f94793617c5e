"""Calibrate I-Steps: the core's calibration on a run through the host's own sampler."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import comfy.model_management
import comfy.samplers
import comfy.utils
from comfy.model_patcher import ModelPatcher

from ...tokencache_core.schedules.calibration import SUFFIX, PlaceCalibration, best_of
from ...tokencache_core.settings import DEFAULTS
from ...tokencache_core.tuning.calibrate_places import BUDGET, calibrate_places
from ...tokencache_core.words.message import lines, say
from ..families import known_family
from ..folders.calibration_folder import calibration_name, kept_calibrations, write_calibration
from ..folders.models_folder import file_to_write
from .host_run import HostRun, honouring_sessions
from .ksampler_inputs import starting_latent
from .model_fingerprint import model_fingerprint
from .node_text import tell_written
from .sampler_kind import sampler_kind, why_not_calibrated

I_STEPS = 0.4  # about the share of cached runs' steps that are I-steps, for the progress bar


def calibrate_model(
    model: ModelPatcher,
    positive: list,
    negative: list,
    latent_image: dict,
    *,
    sampler_name: str,
    scheduler: str,
    steps: int,
    cfg: float,
    i_steps: int,
    save_as: str,
    seed: int = 0,
) -> str:
    """Write a calibration to models/tokencache; returns its contents in words.

    positive, negative, latent_image, sampler_name, scheduler, steps, cfg, seed: of the runs, as for KSampler.
    i_steps: the number of I-steps that is tried on real runs; 0: several shares of the steps.
    save_as: the file's name; empty: a name that says what the calibration is for.
    """
    known_family(model.model.diffusion_model, "it runs uncached, and there is nothing to calibrate")
    if i_steps and not 2 <= i_steps < steps:
        raise ValueError(f"i_steps must be 0, or from 2 to one less than the {steps} steps, not {i_steps}")
    if save_as.strip():
        file_to_write(save_as, SUFFIX)  # refuses a bad name before any work is done
    clone, sampler = honouring_sessions(model), comfy.samplers.sampler_object(sampler_name)
    sigmas = comfy.samplers.calculate_sigmas(clone.get_model_object("model_sampling"), scheduler, steps)
    if why := why_not_calibrated(sampler, sigmas.tolist()):
        raise ValueError(f"this cannot be calibrated: {why}")
    latent = starting_latent(clone, latent_image)
    if latent.is_nested:
        raise ValueError(
            "a latent of several parts (a video with its sound) cannot be calibrated: connect one of the parts, or "
            "turn on calibrate_on_first_run"
        )
    kind = sampler_kind(sampler)
    run = HostRun(
        clone,
        positive,
        negative,
        latent,
        cfg=cfg,
        sampler=sampler,
        sigmas=sigmas,
        seed=seed,
        before_evaluation=_Progress(len(sigmas) - 1).before_evaluation,
    )
    record, found = calibrate_places(
        run,
        DEFAULTS,
        counts=(i_steps,) if i_steps else (),
        log=lambda line: logging.info(f"TokenCache calibration: {line}"),
    )
    notes = {
        "cost": found.cost(),
        "latent": " x ".join(map(str, latent.shape)),
        "scheduler": scheduler,
        "settings": replace(DEFAULTS, order=found.order).text(),
    }
    calibration = PlaceCalibration(
        model_fingerprint(model), kind, cfg, record.taus, found.order, found.places, found.trials, notes
    )
    file = write_calibration(calibration, save_as if save_as.strip() else calibration_name(calibration))
    tell_written(file)
    return _words(calibration, file)


def _words(calibration: PlaceCalibration, file: Path) -> str:
    said = [say("written_to", "written to {file}", file=f"{file.parent.name}/{file.name}")]
    used = best_of(
        kept_calibrations()[0], calibration.fingerprint, calibration.sampler, calibration.cfg, calibration.taus
    )
    if used != file.name:
        said.append(
            say(
                "calibration_not_used",
                "Apply TokenCache still uses {used}, which fits the same runs: delete that file to use this one",
                used=str(used),
            )
        )
    tried = [
        say(
            "calibration_tried",
            "{db} dB with {count} I-steps, order {order}: {places}",
            db=f"{trial.psnr_db:.1f}",
            count=len(trial.places),
            order=trial.order,
            places=", ".join(map(str, trial.places)),
        )
        for trial in calibration.trials
    ]
    heading = [say("calibration_tried_on", "tried on real runs:")] if tried else []
    return lines(*said, calibration.text(), *heading, *tried)


class _Progress:
    """A progress bar over the whole run and the expected cached ones; raises the host's interrupts."""

    def __init__(self, steps: int) -> None:
        self.steps, self.evaluations = steps, 0
        self.bar = comfy.utils.ProgressBar(1000)

    def before_evaluation(self) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        whole = min(self.evaluations, self.steps)
        done = whole + (self.evaluations - whole) * I_STEPS
        self.bar.update_absolute(min(1000, round(1000 * done / ((1 + BUDGET) * self.steps))))
        self.evaluations += 1
