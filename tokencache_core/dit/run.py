"""A sampling run of our own DiT without a host (a `runs.run.Run`)."""

from __future__ import annotations

from torch import Tensor

from ..blocks.spec import BlockSpec
from ..runs.network_run import NetworkRun
from ..sampling.noise_time import noise_time, unit_variance
from .guidance import guided_denoiser
from .model import DiT

DIT_BLOCK = BlockSpec(tokens="x")


class DiTRun(NetworkRun):
    """One sampling run of a DiT.

    labels: (B,) long, on the model's device.
    noise: (B, C, H, W), to start from.
    sigmas: (steps + 1,), on the CPU.
    cfg: the guidance scale.
    solver: one of `sampling.samplers.SOLVERS`.
    """

    def __init__(self, model: DiT, labels: Tensor, *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> None:
        blocks = [(block, DIT_BLOCK) for block in model.blocks]
        super().__init__(blocks, noise=noise, sigmas=sigmas, solver=solver, patch_size=model.config.patch_size)
        self._denoise = guided_denoiser(model, labels, cfg, self.options)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._denoise(x, sigma)

    def noise_time(self, sigma: float) -> float:
        return noise_time(sigma)

    def input_scale(self, sigma: float) -> float:
        return unit_variance(sigma)
