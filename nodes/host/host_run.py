"""A sampling run through the host's own guider and sampler (a `runs.run.Run`), for training, tuning and measuring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.sample
import comfy.samplers
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...tokencache_core.engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ...tokencache_core.engine.session import Session
from ...tokencache_core.engine.token_choice import Planner
from ...tokencache_core.sampling.samplers import Denoise
from ...tokencache_core.schedules.run_simulator import Fading
from ...tokencache_core.schedules.schedule import Schedule
from ...tokencache_core.settings import CacheSettings
from .model_hooks import KEY, open_host_session, remove_tokencache
from .model_sampling import input_scale, tau_function, usual_fading
from .network_call import SESSION, around_network
from .sampler_kind import is_euler


class HostRun:
    """One KSampler run.

    model: a MODEL that has been through `honour_sessions`.
    positive, negative, cfg: the conditionings and the guidance.
    latent: (B, C, ...), to start from.
    sampler: a SAMPLER.
    sigmas: (steps + 1,).
    seed: of the noise.
    before_evaluation: called before every evaluation of the model; an exception that it raises ends the run.
    """

    def __init__(
        self,
        model: ModelPatcher,
        positive: list,
        negative: list,
        latent: Tensor,
        *,
        cfg: float,
        sampler: Any,
        sigmas: Tensor,
        seed: int,
        before_evaluation: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.latent, self.sampler, self.sigmas, self.seed = model, latent, sampler, sigmas, seed
        self.positive, self.negative, self.cfg = positive, negative, cfg
        self.before_evaluation = before_evaluation
        self.images = latent.shape[0]
        self.options: dict = {}  # the transformer_options of the current evaluation

    def open_session(
        self,
        settings: CacheSettings,
        schedule: Schedule,
        *,
        planner: Planner | None = None,
        learned: LearnedParts = NOTHING_LEARNED,
    ) -> Session:
        return open_host_session(
            self.model,
            settings,
            schedule,
            self.sigmas,
            self.sampler,
            latent=self.latent.shape,
            planner=planner,
            learned=learned,
        )

    @contextmanager
    def cached(self, session: Session) -> Iterator[None]:
        """While open, the network's calls go through `session`."""
        options = self.options
        options[SESSION] = session
        try:
            yield
        finally:
            del options[SESSION]

    @property
    def euler(self) -> bool:
        return is_euler(self.sampler)

    def sample(self, around: Callable[[Denoise], Denoise] = lambda denoise: denoise) -> Tensor:
        """The samples (B, C, ...), in the model's scale, not its VAE's. around: wraps the denoiser."""
        noise = comfy.sample.prepare_noise(self.latent, self.seed)
        samples = _Guider(self, around).sample(
            noise, self.latent, self.sampler, self.sigmas, disable_pbar=True, seed=self.seed
        )
        return self.model.model.process_latent_in(samples)

    @property
    def fading(self) -> Fading:
        return usual_fading(self.model)

    def noise_time(self, sigma: float) -> float:
        return tau_function(self.model)(sigma)

    def input_scale(self, sigma: float) -> float:
        return input_scale(self.model, sigma)


class _Guider(comfy.samplers.CFGGuider):
    """Classifier-free guidance as KSampler does it, with `around` between it and the sampler."""

    def __init__(self, run: HostRun, around: Callable[[Denoise], Denoise]) -> None:
        super().__init__(run.model)
        self.run, self.denoise = run, around(self._plain)
        self.set_conds(run.positive, run.negative)
        self.set_cfg(run.cfg)

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: int | None = None
    ) -> Tensor:
        self.run.before_evaluation()
        self.arguments, self.run.options = (model_options, seed), (model_options or {})["transformer_options"]
        return self.denoise(x, timestep[0])

    def _plain(self, x: Tensor, sigma: Tensor) -> Tensor:
        model_options, seed = self.arguments
        return super().predict_noise(x, sigma.expand(x.shape[0]), model_options, seed)


def honouring_sessions(model: ModelPatcher) -> ModelPatcher:
    """A clone of the MODEL, without Apply TokenCache, whose network calls go through a session in their options."""
    clone = model.clone()
    honour_sessions(clone)
    return clone


def honour_sessions(model: ModelPatcher) -> None:
    """Let the network calls of `model` itself go through a session in their options, without Apply TokenCache."""
    remove_tokencache(model)
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, around_network)
