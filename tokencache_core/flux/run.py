"""One sampling run of a text-to-image flow model, without a host, whose network calls can be put under a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from ..blocks.spec import BlockSpec, TokenArgument
from ..blocks.token_grid import LatentShape
from ..engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ..engine.network_call import cached_blocks
from ..engine.session import Session, open_session
from ..engine.token_choice import Planner
from ..sampling.noise_time import flow_ratio, noise_time
from ..sampling.samplers import EULER, SOLVERS, Denoise
from ..schedules.schedule import Schedule
from ..settings import CacheSettings
from .sampling import guided_velocity
from .text_to_image import TextToImage

_PER_TOKEN = {"pe": TokenArgument(dim=2, joint=True)}  # (1, 1, text + image, d/2, 2, 2)
DOUBLE_BLOCK = BlockSpec(tokens="img", output=0, text="txt", text_output=1, per_token=_PER_TOKEN)
SINGLE_BLOCK = BlockSpec(
    tokens="x", text_length=lambda arguments: arguments["transformer_options"]["img_slice"][0], per_token=_PER_TOKEN
)


class FluxRun:
    """Prompts under guidance `cfg`, from `noise` (B, C, H, W) down the flow's times `sigmas` (steps + 1,) by `solver`.

    references: pictures (B, C, h, w) to go by.
    """

    def __init__(
        self,
        model: TextToImage,
        prompts: Sequence[str],
        *,
        noise: Tensor,
        sigmas: Tensor,
        cfg: float,
        solver: str,
        references: Sequence[Tensor] = (),
    ) -> None:
        network = model.network
        self.noise, self.sigmas, self.solver = noise, sigmas, solver
        self.images = len(prompts)
        self.blocks = [(block, DOUBLE_BLOCK) for block in network.double_blocks]
        self.blocks += [(block, SINGLE_BLOCK) for block in network.single_blocks]
        self.latent = LatentShape.of(noise.shape, network.config.patch_size)
        self.options: dict = {}
        positive, negative = model.prompts.encode(prompts), model.prompts.encode([""] * len(prompts))
        self.velocity = guided_velocity(network, positive, negative, cfg, references, self.options)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The predicted clean x: back along the velocity to time 0."""
        return x - sigma * self.velocity(x, sigma)

    def open_session(
        self,
        settings: CacheSettings,
        schedule: Schedule,
        *,
        planner: Planner | None = None,
        learned: LearnedParts = NOTHING_LEARNED,
    ) -> Session:
        """The session of this run; ValueError for parts `learned` by another model."""
        learned.check([block for block, _ in self.blocks])
        return open_session(
            settings,
            schedule,
            sigmas=self.sigmas[:-1].tolist(),
            tau=self.noise_time,
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
        """While open, the network's calls are the session's."""
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
        return noise_time(flow_ratio(sigma))
