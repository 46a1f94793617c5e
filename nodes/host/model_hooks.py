"""The hooks of Apply TokenCache on ComfyUI's model patcher: three wrappers on a cloned MODEL.

They go around a sampling run (opens and closes a session), around an evaluation (an I-step or a P-step), and around a
call of the network (network_call.py). The session travels in the run's own transformer_options; without one everything
runs in full.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from comfy.model_management import get_free_memory
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.patcher_extension import WrappersMP

from ...tokencache_core.blocks.token_grid import LatentShape
from ...tokencache_core.engine import output_forecast
from ...tokencache_core.engine.allocation import tokens_per_block
from ...tokencache_core.engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ...tokencache_core.engine.memory_budget import MemoryBudget
from ...tokencache_core.engine.record import Report, RunConditions
from ...tokencache_core.engine.session import MOVING_WINDOWS, Session, open_session
from ...tokencache_core.engine.token_choice import Planner
from ...tokencache_core.files.fingerprint import Fingerprint
from ...tokencache_core.predictor.trained_cache import TrainedCache
from ...tokencache_core.reporting.advice import text_with_advice
from ...tokencache_core.schedules.automatic import AutomaticSchedule
from ...tokencache_core.schedules.schedule import Schedule
from ...tokencache_core.settings import CacheSettings
from ...tokencache_core.words.message import say
from ..families import family_of
from .automatic_places import RunPlaces, automatic_places, guidance
from .compiled_blocks import CompiledBlocks
from .first_run import RunKind
from .model_fingerprint import model_fingerprint, readable_fingerprint
from .model_sampling import input_scale, tau_function, usual_fading
from .network_call import CALIBRATING, GOES_ON, NO_CALIBRATION, SESSION, around_network
from .other_caches import other_caches
from .own_errors import in_words, log, may_be_ours
from .report_handle import ReportHandle
from .run_conditions import run_conditions
from .sampler_kind import evaluates_several_times, is_euler, sampler_kind
from .sampler_noise import adds_noise

# what P-steps that compute nothing forecast under a sampler that adds noise (docs/outputs.md): nothing, so that they
# hold the last clean x, the network's output, or its blocks' updates
UnderNoise = Literal["clean", "output", "blocks"]
KEY = "tokencache"
U_NET = "UNetModel"  # the host's class of Stable Diffusion 1.x, 2.x and XL
UNCACHED_GRADIENTS = say("note_gradients", "evaluations that record gradients, as in training, were not cached")
# around a run, an evaluation, a call of the network
_WRAPPED = (WrappersMP.OUTER_SAMPLE, WrappersMP.PREDICT_NOISE, WrappersMP.APPLY_MODEL)


def apply_tokencache(
    model: ModelPatcher,
    settings: CacheSettings,
    schedule: Schedule,
    trained: TrainedCache | None = None,
    tuned_for: Fingerprint | None = None,
    memory_budget_gb: float = 0.0,
    calibrates: bool = False,
    calibrated_order: bool = False,
    under_noise: UnderNoise = "clean",
) -> tuple[ModelPatcher, ReportHandle]:
    """A clone of the model that samples with token caching, and the handle of its reports.

    settings, schedule: of its runs.
    trained: a predictor, for its parts.
    tuned_for: the model that a preset was tuned on.
    memory_budget_gb: the most that the cache may keep in the GPU's memory, in GB of 2**30 bytes; 0: no limit.
    calibrates: whether, under an AutomaticSchedule, a run without a calibration is computed in full to give one.
    calibrated_order: whether a calibration's order of forecasts replaces that of the settings.
    under_noise: "clean", except in measurements of whether that is best.
    """
    network = model.model.diffusion_model
    family = family_of(network)
    hooks, patched = _Hooks(settings, schedule, MemoryBudget(round(memory_budget_gb * 2**30))), model.clone()
    hooks.under_noise, hooks.calibrated_order = under_noise, calibrated_order
    if family is None:
        hooks.forecasts_output(type(network).__name__, trained is not None)
    else:
        blocks = [block for block, _ in family.blocks(network)]
        tokens_per_block(settings, len(blocks), 1)  # refuses a K beyond the model's depth
        if isinstance(schedule, AutomaticSchedule):
            hooks.fingerprint, hooks.calibrates = readable_fingerprint(model), calibrates
        if unknown := family.unknown_blocks(network):
            hooks.warn(
                say(
                    "note_unknown_blocks",
                    "blocks of class {classes} are computed in full, because TokenCache does not know how to compute "
                    "only some of their tokens",
                    classes=", ".join(unknown),
                )
            )
        if tuned_for is not None and tuned_for.compare(model_fingerprint(model), "preset tuned") != "same":
            hooks.warn(
                say(
                    "note_preset_of_other_weights",
                    "the preset was tuned on other weights of this architecture, so speed and likeness may differ "
                    "from what it says",
                )
            )
        if trained is not None:
            if trained.fingerprint.compare(model_fingerprint(model)) != "same":
                hooks.warn(
                    say(
                        "note_predictor_of_other_weights",
                        "the predictor was trained on other weights of this architecture, so it may repair less than "
                        "it should",
                    )
                )
            hooks.learned, hooks.trained_on = trained.learned(blocks), trained.trained_on
    if (earlier := handle_of(patched)) is not None:  # applied twice: the later one counts
        earlier.followed = True
    remove_tokencache(patched)
    for kind, wrapper in zip(_WRAPPED, (hooks.around_run, hooks.around_evaluation, around_network)):
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched, hooks.handle


def without_tokencache(model: ModelPatcher) -> ModelPatcher:
    """A clone that samples as if there were no Apply TokenCache; changes by other nodes stay."""
    clone = model.clone()
    remove_tokencache(clone)
    return clone


def remove_tokencache(model: ModelPatcher) -> None:
    """Remove the wrappers of Apply TokenCache from `model` itself."""
    for kind in _WRAPPED:
        model.remove_wrappers_with_key(kind, KEY)


def handle_of(model: ModelPatcher) -> ReportHandle | None:
    """The handle of a MODEL's reports; None if it does not come from Apply TokenCache."""
    wrappers = model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)
    return wrappers[-1].__self__.handle if wrappers else None


class _Hooks:
    """The wrappers of one patched MODEL, with what the user chose; a run's state is in its session."""

    def __init__(self, settings: CacheSettings, schedule: Schedule, budget: MemoryBudget) -> None:
        self.settings, self.schedule, self.budget, self.handle = settings, schedule, budget, ReportHandle()
        self.fingerprint: Fingerprint | None = None  # to find calibrations by; None: none is looked for
        self.calibrates = self.calibrated_order = False
        self.under_noise: UnderNoise = "clean"
        self.learned: LearnedParts = NOTHING_LEARNED
        self.trained_on: tuple[int, ...] = ()  # the predictor's latent size; empty: unknown, or no predictor
        self.compiled = CompiledBlocks()
        self.warnings: list[str] = []  # for the report of every run

    def forecasts_output(self, network: str, trained: bool) -> None:
        """Forecast the network's whole output, because its blocks are not known; the report of every run says so."""
        if network == U_NET:
            self.warn(
                say(
                    "note_u_net",
                    "this model is not a transformer, so on P-steps its whole output is forecast (SD 1.5 and SDXL "
                    "are U-Nets; TokenCache does not know the blocks of {network})",
                    network=network,
                )
            )
        else:
            self.warn(
                say(
                    "note_unknown_model",
                    "TokenCache does not know the blocks of {network}: on P-steps its whole output is forecast, and "
                    "no token is computed",
                    network=network,
                )
            )
        if trained:
            self.warn(say("note_predictor_without_part", "the predictor plays no part in such runs"))
        self.settings = output_forecast.output_settings(self.settings)

    def warn(self, text: str) -> None:
        """Add a warning to the report of every run, and write it to the log."""
        self.warnings.append(text)
        logging.warning(f"TokenCache: {text}")

    def around_run(
        self,
        executor: Any,
        noise: torch.Tensor,
        latent: Any,
        sampler: Any,
        sigmas: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The OUTER_SAMPLE wrapper: a sampling run under a session."""
        guider = executor.class_obj
        if len(sigmas) < 2:
            return executor(noise, latent, sampler, sigmas, *args, **kwargs)
        shape = (kwargs.get("latent_shapes") or [noise.shape])[0]  # the video's, if its sound is packed with it
        try:
            places = self._places(guider, sampler, sigmas)
            session = open_host_session(
                guider.model_patcher,
                self._settings(places),
                places.schedule,
                sigmas,
                sampler,
                latent=shape,
                learned=self.learned,
                budget=self._budget_now(),
                under_noise=self.under_noise,
            )
        except Exception as error:
            if isinstance(error, ValueError) or not may_be_ours(error):  # what the user chose does not fit the model
                raise
            log(error, in_words(error, say("error_run_whole", "the run was computed in full")))
            return executor(noise, latent, sampler, sigmas, *args, **kwargs)
        session.store.memory.tell = logging.info
        for warning in (*self.warnings, *places.notes):
            session.log.note(warning)
        own_options = guider.model_options
        if (others := other_caches(own_options.get("transformer_options", {}))) is not None:
            session.log.note(others)
        guider.model_options = create_model_options_clone(own_options)
        guider.model_options["transformer_options"] |= {
            SESSION: session,
            CALIBRATING: places.calibrating,
            GOES_ON: True,
        }
        self.compiled.take_over(guider.model_options, session)
        try:
            samples = executor(noise, latent, sampler, sigmas, *args, **kwargs)
        finally:
            guider.model_options = own_options
            report = session.close()
        try:
            conditions = run_conditions(guider.model_patcher, sampler, len(sigmas) - 1, self.trained_on)
            self._hand_over(report, places, conditions)
        except Exception as error:  # the samples are there
            log(error, in_words(error, say("error_no_report", "the run has no report")))
        return samples

    def _hand_over(self, report: Report, places: RunPlaces, conditions: RunConditions) -> None:
        """Give the report of a finished run to the handle and to the log."""
        if not report.steps:
            logging.info(" ".join(f"TokenCache: {note}." for note in report.notes))
            return
        # a run without P-steps has no places to explain, except to those who wanted it to calibrate
        explained = self.calibrates or any(step.kind == "P" for step in report.steps)
        report = replace(report, conditions=conditions, placed=places.words if explained else "")
        if places.calibrating is not None:
            report = places.calibrating.closed(report, self.settings)
        self.handle.add(report)
        logging.info(text_with_advice(report))

    def _places(self, guider: Any, sampler: Any, sigmas: torch.Tensor) -> RunPlaces:
        """The schedule of the run that is about to start."""
        if not isinstance(self.schedule, AutomaticSchedule):
            return RunPlaces(self.schedule)
        patcher, steps = guider.model_patcher, sigmas.tolist()
        schedule = replace(self.schedule, fading=usual_fading(patcher))
        if self.fingerprint is None:
            return RunPlaces(schedule)
        kind = RunKind(
            self.fingerprint, sampler_kind(sampler), guidance(guider), tuple(map(tau_function(patcher), steps[:-1]))
        )
        forbidden = guider.model_options.get("transformer_options", {}).get(NO_CALIBRATION, False)
        calibrates = self.calibrates and not forbidden
        return automatic_places(schedule, kind, sampler, steps, partial(input_scale, patcher), calibrates)

    def _settings(self, places: RunPlaces) -> CacheSettings:
        """The cache settings of the run that is about to start."""
        if self.calibrated_order and places.order is not None:
            return replace(self.settings, order=places.order)
        return self.settings

    def _budget_now(self) -> MemoryBudget:
        """The budget with half of the free main memory: pinned memory comes in powers of two, and the host needs some
        as well.
        """
        free = get_free_memory(torch.device("cpu"))
        return replace(self.budget, main=free // 2)  # pyright: ignore[reportOperatorIssue] - a tuple only on request

    def around_evaluation(
        self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, model_options: dict, seed: int | None = None
    ) -> Any:
        """The PREDICT_NOISE wrapper: an evaluation of the model, an I-step or a P-step."""
        options = model_options.get("transformer_options", {})
        session, calibrating = options.get(SESSION), options.get(CALIBRATING)
        if session is None:
            return executor(x, timestep, model_options, seed)
        if torch.is_grad_enabled():  # what is kept would lead gradients into earlier evaluations
            session.log.note(UNCACHED_GRADIENTS)
            return executor(x, timestep, model_options, seed)
        with session.evaluation(float(timestep.max()), x) as evaluation:
            clean = executor(x, timestep, model_options, seed)
            if evaluation.misses and "context_handler" in model_options:
                session.log.note(MOVING_WINDOWS)
        if not evaluation.reached:
            return clean
        try:
            if calibrating is not None and isinstance(clean, torch.Tensor):
                calibrating.add(x, clean, session)
            return session.corrected(x, clean)
        except Exception as error:
            if not may_be_ours(error):
                raise
            words = in_words(error, say("error_not_corrected", "what P-steps got wrong was not corrected"))
            session.log.note(words)
            log(error, words)
            return clean


def open_host_session(
    patcher: ModelPatcher,
    settings: CacheSettings,
    schedule: Schedule,
    sigmas: torch.Tensor,
    sampler: Any,
    *,
    latent: Sequence[int],
    planner: Planner | None = None,
    learned: LearnedParts = NOTHING_LEARNED,
    budget: MemoryBudget = MemoryBudget(),
    under_noise: UnderNoise = "clean",
) -> Session:
    """A session for a run of a MODEL.

    sigmas: (steps + 1,) of the run.
    sampler: a SAMPLER.
    latent: the latent's shape (B, C, ...).
    under_noise: as in `apply_tokencache`.
    The other arguments are those of `engine.session.open_session`.
    """
    network = patcher.model.diffusion_model
    family, fresh_noise = family_of(network), adds_noise(sampler) is True
    by_output = fresh_noise and not evaluates_several_times(sampler) and under_noise != "blocks"
    holds_clean = by_output and under_noise == "clean"
    computes_none = settings.cache_ratio == 1 and not settings.last_blocks and planner is None and not learned.text()
    if family is None or (by_output and computes_none):
        streams, settings = output_forecast.STREAMS, output_forecast.output_settings(settings, holds_clean)
    else:
        streams = family.streams(network)
    return open_session(
        settings,
        schedule,
        sigmas=sigmas[:-1].tolist(),
        tau=tau_function(patcher),
        input_scale=partial(input_scale, patcher),
        streams=streams,
        device=patcher.load_device,
        planner=planner,
        learned=learned,
        end=float(sigmas[-1]),
        euler=is_euler(sampler),
        fresh_noise=fresh_noise,
        holds_clean=holds_clean,
        fading=usual_fading(patcher),
        budget=budget,
        latent=LatentShape.of(latent, _patch_size(network, latent)),
    )


def _patch_size(network: Any, latent: Sequence[int]) -> Any:
    """The size of a token in a latent (B, C, ...), as `LatentShape.of` takes it; in most networks it is fixed."""
    of_size = getattr(network, "patch_size_in", None)
    return getattr(network, "patch_size", None) if of_size is None else of_size(latent)
