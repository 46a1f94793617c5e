"""The common part of all sampling runs without a host, of networks whose blocks are known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..blocks.spec import BlockSpec
from ..blocks.token_grid import LatentShape
from ..engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ..engine.network_call import cached_blocks
from ..engine.session import Session, open_session
from ..engine.token_choice import Planner
from ..sampling.samplers import EULER, SOLVERS, Denoise
from ..schedules.run_simulator import USUAL_FADING, Fading
from ..schedules.schedule import Schedule
from ..settings import CacheSettings


class NetworkRun(ABC):
    """The base of sampling runs (`runs.run.Run`): a model's own adds what it predicts, and at which noise time.

    blocks: the network's blocks, in order, with their specs.
    noise: (B, C, H, W), to start from.
    sigmas: (steps + 1,), on the CPU.
    solver: one of `sampling.samplers.SOLVERS`.
    patch_size: of a token in the latent, as `LatentShape.of` takes it.
    """

    fading: Fading = USUAL_FADING  # how errors in x fade, as in `RunSimulator`

    def __init__(
        self,
        blocks: Sequence[tuple[nn.Module, BlockSpec]],
        *,
        noise: Tensor,
        sigmas: Tensor,
        solver: str,
        patch_size: int | Sequence[int | None],
    ) -> None:
        self.blocks, self.noise, self.sigmas, self.solver = blocks, noise, sigmas, solver
        self.images = len(noise)
        self.latent = LatentShape.of(noise.shape, patch_size)
        self.options: dict[str, Any] = {}  # the transformer_options of the network's calls

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The predicted clean x."""

    @abstractmethod
    def noise_time(self, sigma: float) -> float:
        """The noise time (sampling/noise_time.py) of one of the run's own sigmas."""

    @abstractmethod
    def input_scale(self, sigma: float) -> float:
        """What x at `sigma` is multiplied by before the network is given it."""

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
            tau=self.noise_time,
            input_scale=self.input_scale,
            streams=tuple(spec.stream for _, spec in self.blocks),
            device=self.noise.device,
            planner=planner,
            learned=learned,
            end=float(self.sigmas[-1]),
            euler=self.euler,
            fading=self.fading,
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
