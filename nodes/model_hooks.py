"""The one place that talks to ComfyUI's model patcher.

Three wrappers on a cloned MODEL: around a sampling run (opens and closes a session), around an evaluation (I or P is
decided), and around a call of the network (its blocks' forwards are swapped and put back). The session travels in the
run's own transformer_options; without one everything runs whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.patcher_extension import WrappersMP

from ..tokencache_core.attention import OVERRIDE_KEY
from ..tokencache_core.forward import cached_blocks
from ..tokencache_core.schedule import Schedule
from ..tokencache_core.session import Session
from ..tokencache_core.settings import CacheSettings
from .families import family_of
from .report_handle import ReportHandle

KEY = "tokencache"
SESSION = "tokencache_session"
_OUTSIDE_BLOCKS = {"post_input"}  # patches that never see a block's tokens, so that cutting them is safe


def apply_tokencache(model: ModelPatcher, settings: CacheSettings, schedule: Schedule) -> tuple[ModelPatcher, ReportHandle]:
    """A clone of the model that samples with token caching, and the handle of its reports."""
    network = model.model.diffusion_model
    family = family_of(network)
    if family is None:
        logging.warning("TokenCache does not know %s yet: this model runs uncached.", type(network).__name__)
    else:
        _check_depth(settings, len(family.blocks(network)))
    hooks, patched = _Hooks(settings, schedule), model.clone()
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, hooks.around_run), (WrappersMP.PREDICT_NOISE, hooks.around_evaluation),
        (WrappersMP.APPLY_MODEL, hooks.around_network),
    ):
        patched.remove_wrappers_with_key(kind, KEY)  # applied twice: the later one counts
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched, hooks.handle


def _check_depth(settings: CacheSettings, n_blocks: int) -> None:
    if settings.last_blocks > n_blocks:
        raise ValueError(f"last_blocks is {settings.last_blocks}, but this model has only {n_blocks} blocks.")


class _Hooks:
    """What the user chose, for as long as the patched MODEL lives; a run's state is in its session."""

    def __init__(self, settings: CacheSettings, schedule: Schedule) -> None:
        self.settings, self.schedule, self.handle = settings, schedule, ReportHandle()

    def around_run(self, executor: Any, noise: torch.Tensor, latent: Any, sampler: Any, sigmas: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        family = family_of(guider.model_patcher.model.diffusion_model)
        if family is None or len(sigmas) < 2:
            return executor(noise, latent, sampler, sigmas, *args, **kwargs)
        session = self._open_session(guider.model_patcher, family, sigmas)
        own_options = guider.model_options
        guider.model_options = create_model_options_clone(own_options)
        guider.model_options["transformer_options"][SESSION] = session
        try:
            return executor(noise, latent, sampler, sigmas, *args, **kwargs)
        finally:
            guider.model_options = own_options
            report = session.close()
            if report.steps:
                self.handle.reports.append(report)
                logging.info(report.text())

    def around_evaluation(self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, model_options: dict, seed: int | None = None) -> Any:
        session = model_options.get("transformer_options", {}).get(SESSION)
        if session is None:
            return executor(x, timestep, model_options, seed)
        patcher, sigma = executor.class_obj.model_patcher, timestep.max()
        with session.evaluation(float(sigma), _tau_function(patcher)(sigma)):
            return executor(x, timestep, model_options, seed)

    def around_network(
        self, executor: Any, x: torch.Tensor, t: torch.Tensor, c_concat: Any, c_crossattn: Any, control: Any,
        transformer_options: dict, **kwargs: Any,
    ) -> Any:
        session, network = transformer_options.get(SESSION), executor.class_obj.diffusion_model
        family = family_of(network)
        if session is None or session.current is None or family is None or _sees_tokens(transformer_options):
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        blocks = family.blocks(network)
        touched = control is not None or bool(transformer_options.get("patches_replace"))
        images = x.shape[0] // len(transformer_options["cond_or_uncond"])
        with cached_blocks(
            session, blocks, key=_row_key(x, transformer_options), images=images, telescopes=not touched,
        ) as forward:
            options = {**transformer_options, OVERRIDE_KEY: _chained(forward.attention, transformer_options.get(OVERRIDE_KEY))}
            with family.attention_reaching(forward.attention):
                return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def _open_session(self, patcher: ModelPatcher, family: Any, sigmas: torch.Tensor) -> Session:
        tau, steps = _tau_function(patcher), sigmas[:-1]
        streams = tuple(spec.stream for _, spec in family.blocks(patcher.model.diffusion_model))
        return Session(
            self.settings, self.schedule, sigmas=steps.tolist(), taus=[tau(sigma) for sigma in steps],
            streams=streams, device=patcher.load_device,
        )


def _tau_function(patcher: ModelPatcher) -> Callable[[torch.Tensor], float]:
    """sigma -> the model's own timestep, scaled to [0, 1]."""
    sampling = patcher.get_model_object("model_sampling")
    longest = float(sampling.timestep(torch.as_tensor(sampling.sigma_max)))
    return lambda sigma: float(sampling.timestep(sigma)) / longest


def _sees_tokens(transformer_options: dict) -> bool:
    """Whether other nodes patch the inside of blocks, where they expect all tokens."""
    return any(kind not in _OUTSIDE_BLOCKS for kind in transformer_options.get("patches", {}))


def _row_key(x: torch.Tensor, transformer_options: dict) -> tuple:
    """Names the rows of one call: conditionings, what replaces blocks, context window, shape, type and device."""
    replaced = transformer_options.get("patches_replace", {}).get("dit", {})
    window = transformer_options.get("context_window")
    return (
        tuple(transformer_options["uuids"]), tuple(transformer_options["cond_or_uncond"]), tuple(sorted(map(str, replaced))),
        None if window is None else str(window.index_list), tuple(x.shape), x.dtype, x.device,
    )


def _chained(tap: Callable[..., Any], other: Callable[..., Any] | None) -> Callable[..., Any]:
    """Our attention tap around another node's override."""
    if other is None:
        return tap
    return lambda function, *args, **kwargs: tap(lambda *a, **k: other(function, *a, **k), *args, **kwargs)
