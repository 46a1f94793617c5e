"""A text-to-image flow model as a model that is asked for samples by prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..blocks.spec import BlockSpec
from ..sampling.noise_time import flow_ratio, noise_time
from ..sampling.samplers import starting_noise
from ..sampling.sigma_schedule import FLOW, SigmaSchedule
from .asked_by_prompts import AskedByPrompts
from .run import DOUBLE_BLOCK, SINGLE_BLOCK, FluxRun
from .sampling import flow_times
from .text_to_image import TextToImage


class SampledFlux(AskedByPrompts):
    """The `runs.sampled_model.SampledModel` of a text-to-image model."""

    architecture, exact_schedule = "Flux", SigmaSchedule(FLOW, 3.0)
    fading = FluxRun.fading
    asking = "sample i has example i mod C, the empty prompt as negative"

    def __init__(self, model: TextToImage) -> None:
        super().__init__(model.prompts)
        self.model, self.network = model, model.network
        self.is_pixels = model.network.config.in_channels == 3

    @property
    def blocks(self) -> list[tuple[nn.Module, BlockSpec]]:
        double = [(block, DOUBLE_BLOCK) for block in self.network.double_blocks]
        return double + [(block, SINGLE_BLOCK) for block in self.network.single_blocks]

    @property
    def device(self) -> torch.device:
        return self.network.img_in.weight.device

    def noise_shape(self, samples: int) -> tuple[int, ...]:
        config = self.network.config
        return (samples, config.in_channels, config.input_size, config.input_size)

    def sigmas(self, schedule: SigmaSchedule, steps: int) -> Tensor:
        if schedule.name != FLOW:
            raise ValueError(
                f"this is a flow model, which the schedule {schedule.name} is not for: take --schedule {FLOW} --shift 3"
            )
        return flow_times(steps, 1.0 if schedule.shift is None else schedule.shift)

    def starting_noise(self, samples: int, seed: int, sigmas: Tensor) -> Tensor:
        """Noise of unit variance, whatever the sigmas: at time 1, x is noise alone."""
        return starting_noise(self.noise_shape(samples), seed, torch.zeros(())).to(self.device)

    def noise_time(self, sigma: float) -> float:
        return noise_time(flow_ratio(sigma))

    def run(self, conditions: Sequence[str], *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> FluxRun:
        return FluxRun(self.model, conditions, noise=noise, sigmas=sigmas, cfg=cfg, solver=solver)
