"""One sampling run of our own DiT, without a host, whose network calls can be put under a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from ..blocks.spec import BlockSpec
from ..blocks.token_grid import LatentShape
from ..engine.forward import cached_blocks
from ..engine.session import Session
from ..engine.token_choice import Planner
from ..predictor.trained_parts import Learned
from ..sampling.noise_time import noise_time
from ..sampling.samplers import SOLVERS, Denoise, guided_denoiser
from ..schedules.schedule import Schedule
from ..settings import CacheSettings
from .model import DiT

DIT_BLOCK = BlockSpec(tokens="x")


class DiTRun:
    """Class labels (B,) under guidance `cfg`, from `noise` (B, C, H, W) down `sigmas` (steps + 1,) by `solver`."""

    def __init__(self, model: DiT, labels: Tensor, *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> None:
        self.noise, self.sigmas, self.solver = noise, sigmas, solver
        self.images = len(labels)
        self.blocks = [(block, DIT_BLOCK) for block in model.blocks]
        self.latent = LatentShape.of(noise.shape, model.config.patch_size)
        self.options: dict = {}
        self.denoise = guided_denoiser(model, labels, cfg, self.options)

    def open_session(
        self, settings: CacheSettings, schedule: Schedule, *, planner: Planner | None = None, learned: Learned = Learned(),
    ) -> Session:
        """The session of this run; ValueError for parts `learned` by another model."""
        learned.check([block for block, _ in self.blocks])
        return Session(
            settings, schedule, sigmas=self.sigmas[:-1].tolist(), tau=noise_time, streams=tuple(spec.stream for _, spec in self.blocks),
            device=self.noise.device, planner=planner, learned=learned, end=float(self.sigmas[-1]), euler=self.solver == "ddim",
            latent=self.latent,
        )

    @contextmanager
    def cached(self, session: Session) -> Iterator[None]:
        """While open, the network's calls are the session's."""
        with cached_blocks(session, self.blocks, key="rows", images=self.images, telescopes=True) as forward:
            if session.taps_attention:
                self.options.update(forward.reached({}))
            try:
                yield
            finally:
                self.options.clear()

    def sample(self, around: Callable[[Denoise], Denoise] = lambda denoise: denoise) -> Tensor:
        """The samples (B, C, H, W), with `around(denoise)` in place of the plain denoiser."""
        return SOLVERS[self.solver](around(self.denoise), self.noise, self.sigmas)

    def noise_time(self, sigma: float) -> float:
        return noise_time(sigma)
