"""A sampling run of a text-to-image flow model without a host (a `runs.run.Run`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..blocks.spec import BlockSpec, TokenArgument
from ..runs.network_run import NetworkRun
from ..sampling.noise_time import flow_ratio, noise_time
from ..schedules.run_simulator import FLOW_FADING
from .sampling import guided_velocity
from .text_to_image import TextToImage

_PER_TOKEN = {"pe": TokenArgument(dim=2, joint=True)}  # (1, 1, text + image, d/2, 2, 2)
DOUBLE_BLOCK = BlockSpec(tokens="img", output=0, text="txt", text_output=1, per_token=_PER_TOKEN)
SINGLE_BLOCK = BlockSpec(
    tokens="x", text_length=lambda arguments: arguments["transformer_options"]["img_slice"][0], per_token=_PER_TOKEN
)


class FluxRun(NetworkRun):
    """One sampling run of a text-to-image flow model.

    prompts: one per sample.
    noise: (B, C, H, W), to start from.
    sigmas: (steps + 1,), the flow's times, falling to 0.
    cfg: the guidance scale.
    solver: one of `sampling.samplers.SOLVERS`.
    references: reference pictures (B, C, h, w).
    """

    fading = FLOW_FADING

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
        blocks = [(block, DOUBLE_BLOCK) for block in network.double_blocks]
        blocks += [(block, SINGLE_BLOCK) for block in network.single_blocks]
        super().__init__(blocks, noise=noise, sigmas=sigmas, solver=solver, patch_size=network.config.patch_size)
        positive, negative = model.prompts.encode(prompts), model.prompts.encode([""] * len(prompts))
        self.velocity = guided_velocity(network, positive, negative, cfg, references, self.options)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The predicted clean x: back along the velocity to time 0."""
        return x - sigma * self.velocity(x, sigma)

    def noise_time(self, sigma: float) -> float:
        return noise_time(flow_ratio(sigma))

    def input_scale(self, sigma: float) -> float:
        """1: x keeps its size."""
        return 1.0
