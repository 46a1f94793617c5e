"""A sampling run of a video transformer without a host (a `runs.run.Run`)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..blocks.spec import BlockSpec, TokenArgument
from ..runs.network_run import NetworkRun
from ..sampling.noise_schedule import timestep_of
from ..sampling.noise_time import noise_time, unit_variance
from .model import VideoTransformer

COLUMN_BLOCK = BlockSpec(tokens="x")  # (rows, places, frames x width)
CELL_BLOCK = BlockSpec(  # (rows, cells, tokens of a cell x width)
    tokens="x",
    per_token={"rotation": TokenArgument(dim=1), "padding": TokenArgument(dim=1)},  # (1, cells, ...)
)


class VideoRun(NetworkRun):
    """One sampling run of a video transformer.

    positive, negative: text (B, L, C_text), one row per clip.
    noise: (B, C, F, H, W), to start from.
    sigmas: (steps + 1,), falling to 0.
    cfg: the guidance scale.
    solver: one of `sampling.samplers.SOLVERS`.
    """

    def __init__(
        self,
        network: VideoTransformer,
        positive: Tensor,
        negative: Tensor,
        *,
        noise: Tensor,
        sigmas: Tensor,
        cfg: float,
        solver: str,
    ) -> None:
        blocks = [(block, COLUMN_BLOCK) for block in network.blocks]
        super().__init__(blocks, noise=noise, sigmas=sigmas, solver=solver, patch_size=network.patch_size)
        self.network, self.cfg = network, cfg
        self.text = positive if cfg == 1.0 else torch.cat([positive, negative])

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The predicted clean x, under classifier-free guidance (arXiv 2207.12598)."""
        scaled = (x / (sigma**2 + 1).sqrt()).to(self.network.dtype)  # `unit_variance` in tensors: its rounding differs
        rows = scaled.repeat(len(self.text) // len(x), 1, 1, 1, 1)
        t = torch.full((len(rows),), float(self.timestep(sigma)), device=x.device)
        predicted = self.network(rows, t, self.text, transformer_options=self.options).to(x.dtype)
        if self.cfg != 1.0:
            positive, negative = predicted.chunk(2)
            predicted = negative + self.cfg * (positive - negative)
        if self.network.config.predicts_velocity:  # v: Salimans & Ho 2022, arXiv 2202.00512, section 4
            return x / (sigma**2 + 1) - predicted * sigma / (sigma**2 + 1).sqrt()
        return x - sigma * predicted

    def timestep(self, sigma: Tensor) -> Tensor:
        """The timestep that the network is given at `sigma`."""
        return timestep_of(sigma)

    def noise_time(self, sigma: float) -> float:
        return noise_time(sigma)

    def input_scale(self, sigma: float) -> float:
        return unit_variance(sigma)
