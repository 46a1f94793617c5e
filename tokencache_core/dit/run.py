"""A sampling run of our own DiT without a host (a `runs.run.Run`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from ..blocks.spec import BlockSpec
from ..blocks.token_grid import LatentShape
from ..engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ..engine.network_call import cached_blocks
from ..engine.session import Session, open_session
from ..engine.token_choice import Planner
from ..sampling.noise_time import noise_time
from ..sampling.samplers import EULER, SOLVERS, Denoise
from ..schedules.schedule import Schedule
from ..settings import CacheSettings
from .guidance import guided_denoiser
from .model import DiT

DIT_BLOCK = BlockSpec(tokens="x")


class DiTRun:
    """One sampling run of a DiT.

    labels: (B,) long, on the model's device.
    noise: (B, C, H, W), to start from.
    sigmas: (steps + 1,), on the CPU.
    cfg: the guidance scale.
    solver: one of `sampling.samplers.SOLVERS`.
    """

    def __init__(self, model: DiT, labels: Tensor, *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> None:
        self.noise, self.sigmas, self.solver = noise, sigmas, solver
        self.images = len(labels)
        self.blocks = [(block, DIT_BLOCK) for block in model.blocks]
        self.latent = LatentShape.of(noise.shape, model.config.patch_size)
        self.options: dict = {}
        self.denoise = guided_denoiser(model, labels, cfg, self.options)

    def open_session(
        self,
        settings: CacheSettings,
        schedule: Schedule,
        *,
        planner: Planner | None = None,
        learned: LearnedParts = NOTHING_LEARNED,
    ) -> Session:
        """A session for this run; ValueError if the parts `learned` do not fit the model."""
        learned.check([block for block, _ in self.blocks])
        return open_session(
            settings,
            schedule,
            sigmas=self.sigmas[:-1].tolist(),
            tau=noise_time,
            streams=tuple(spec.stream for _, spec in self.blocks),
            device=self.noise.device,
            planner=planner,
            learned=learned,
            end=float(self.sigmas[-1]),
            euler=self.euler,
            latent=self.latent,
        )

    @contextmanager
    def cached(self, session: Session) -> Iterator[None]:
        """While open, the network's calls go through `session`."""
        with cached_blocks(session, self.blocks, key="rows", images=self.images, nothing_between_blocks=True) as call:
            if session.keeps_keys:
                self.options.update(call.attention.in_options({}))
            try:
                yield
            finally:
                self.options.clear()

    @property
    def euler(self) -> bool:
        return self.solver == EULER

    def sample(self, around: Callable[[Denoise], Denoise] = lambda denoise: denoise) -> Tensor:
        """The samples (B, C, H, W), with `around(denoise)` in place of the plain denoiser."""
        return SOLVERS[self.solver](around(self.denoise), self.noise, self.sigmas)

    def noise_time(self, sigma: float) -> float:
        return noise_time(sigma)
