"""Train Cache Predictor: the core's training on runs through the host's own sampler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ...tokencache_core.files.fingerprint import fingerprint_of
from ...tokencache_core.predictor.shared_weights import ordinary_tensors, weight_bytes
from ...tokencache_core.predictor.trained_cache import TrainedCache, kept
from ...tokencache_core.training.freed_memory import give_back, given_back_at_once
from ...tokencache_core.training.memory import TrainingMemory, activation_bytes, stream_bytes
from ...tokencache_core.training.plan import TrainingPlan
from ...tokencache_core.training.progress import TrainingProgress
from ...tokencache_core.training.trainer import Training
from ...tokencache_core.training.written_tensors import gradients_through_writes
from ..families import known_family
from .host_run import HostRun, honour_sessions
from .kernel_gradients import give_kernels_gradients
from .node_text import tell
from .training_copy import load_whole, training_copy
from .training_routes import TRAINING

MESSAGE_INTERVAL = 1.0  # seconds between two messages to the page


def train_predictor(
    model: ModelPatcher,
    positive: list,
    negative: list,
    latent: torch.Tensor,
    plan: TrainingPlan,
    *,
    sampler_name: str,
    scheduler: str,
    steps: int,
    cfg: float,
    minutes: float,
    keep: Callable[[TrainedCache], None],
    workflow: str = "",
) -> TrainedCache:
    """Train on runs of the host's sampler.

    positive, negative, sampler_name, scheduler, steps, cfg: of the runs, as for KSampler.
    latent: the runs' latents have its shape.
    plan: what is trained, and how.
    minutes: how long to train.
    keep: takes the result, also when the user interrupts.
    workflow: the id of the page's workflow, whose node shows the progress.
    """
    network = model.model.diffusion_model
    family = known_family(network, "it cannot train a predictor for this model")
    predicted = plan.predicted_speedup(steps, len(family.blocks(network)))

    def progress_of(node: str) -> TrainingProgress:
        return TrainingProgress(minutes, predicted, node, workflow)

    with torch.inference_mode(False), torch.enable_grad(), TRAINING.of(progress_of) as progress:
        copy = training_copy(model)
        honour_sessions(copy)
        blocks, specs = zip(*family.blocks(copy.model.diffusion_model))
        in_place = family.block_by_block or any(spec.in_place for spec in specs)
        # blocks, or the network between them, may write into tensors that a gradient needs
        mutates = gradients_through_writes() if in_place else nullcontext()
        give_kernels_gradients()
        fingerprint = fingerprint_of(family.name, blocks)
        sampling = copy.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
        before_evaluation = _bar_of(progress)
        latent, positive, negative = latent.clone(), ordinary_tensors(positive), ordinary_tensors(negative)

        def start(seed: int) -> HostRun:
            sampler = comfy.samplers.sampler_object(sampler_name)
            return HostRun(
                copy,
                positive,
                negative,
                latent,
                cfg=cfg,
                sampler=sampler,
                sigmas=sigmas,
                seed=seed,
                before_evaluation=before_evaluation,
            )

        shared, copied = weight_bytes(copy.model, model.model)
        load_whole(copy)
        training = Training(plan, copy.model.diffusion_model, blocks, start)

        def trained() -> TrainedCache:
            notes = {
                "steps": steps,
                "cfg": cfg,
                "sampler": sampler_name,
                "scheduler": scheduler,
                "latent": tuple(latent.shape),
            }
            return TrainedCache(
                settings=plan.settings,
                interval=plan.interval,
                fingerprint=fingerprint,
                log=tuple(training.log),
                **kept(training.learned()),
                notes={name: str(value) for name, value in notes.items()} | measured,
            )

        measured: dict[str, str] = {}
        try:
            stream = stream_bytes(start(plan.seed), plan, blocks[0], specs[0])
            memory = TrainingMemory(
                shared,
                copied,
                sum(weight.nbytes for weight in training.parameters),
                activation_bytes(plan, len(blocks), steps, stream),
            )
            tell(memory.text)
            measured["memory"] = str(memory)
            room = _checked_room(memory) if copy.load_device.type == "cpu" else nullcontext()
            comfy.model_management.in_training = True  # the host then uses kernels that have a gradient
            with room, mutates:
                _train(training, progress)
            progress.measure()
            TRAINING.tell()
            outcome = training.finish()
            measured |= outcome.notes
            progress.add(training.log, outcome.speedup)
            progress.outcome(outcome.without, outcome.likeness)
            tell(outcome.likeness.verdict)
        finally:  # an interrupt arrives as an exception
            comfy.model_management.in_training = False
            if training.log:  # an iteration that was whole
                result = trained()
                keep(result)
                if training.remark():
                    logging.warning(f"TokenCache training: {training.remark()}")
            training.close()
            comfy.model_management.unload_all_models()  # else the copy stays loaded beside the user's model
            give_back()
        return result


def _checked_room(memory: TrainingMemory) -> AbstractContextManager[Any]:
    """To be open during a training on the CPU. MemoryError if the training does not fit: the machine would hang."""
    memory.check_room(_free_memory())
    return given_back_at_once()


def _free_memory() -> int:
    """The bytes of the CPU's memory that are free."""
    free = comfy.model_management.get_free_memory(torch.device("cpu"))
    assert isinstance(free, (int, float))  # a pair only where torch's own share is asked for
    return int(free)


def _bar_of(progress: TrainingProgress) -> Callable[[], None]:
    """A function to call before every evaluation of the model, because an iteration may take minutes: it moves the
    host's progress bar and raises the host's interrupts.
    """
    bar = comfy.utils.ProgressBar(1000)

    def before_evaluation() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(round(1000 * progress.share), 1000)

    return before_evaluation


def _train(training: Training, progress: TrainingProgress) -> None:
    """Train until the time is up or the page asks to stop."""
    last_message = 0.0
    progress.begin()
    TRAINING.tell()
    while True:
        point = training.step()
        logging.info(f"TokenCache training: iteration {point.iteration}, drift {point.loss:.4g}")
        progress.add(training.log, training.speedup)
        if time.monotonic() - last_message > MESSAGE_INTERVAL:
            TRAINING.tell()
            last_message = time.monotonic()
        if progress.stopping or training.is_over(progress.minutes, progress.seconds):
            return
