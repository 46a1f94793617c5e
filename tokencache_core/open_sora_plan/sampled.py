"""A small text-to-video model as a model that is asked for clips by prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..blocks.spec import BlockSpec
from ..flux.asked_by_prompts import AskedByPrompts
from ..flux.prompts import PromptTable
from ..sampling.noise_time import noise_time
from ..sampling.samplers import starting_noise
from ..sampling.sigma_schedule import SigmaSchedule
from .model import VideoTransformer
from .run import COLUMN_BLOCK, VideoRun


class SampledVideo(AskedByPrompts):
    """The `runs.sampled_model.SampledModel` of a video transformer that brings its own words."""

    architecture, exact_schedule = "Open-Sora-Plan", SigmaSchedule()
    fading = VideoRun.fading
    asking = "sample i has example i mod C, the empty prompt as negative"

    def __init__(self, network: VideoTransformer, prompts: PromptTable) -> None:
        super().__init__(prompts)
        self.network, self.is_pixels = network, network.config.is_pixels

    @property
    def blocks(self) -> list[tuple[nn.Module, BlockSpec]]:
        return [(block, COLUMN_BLOCK) for block in self.network.blocks]

    @property
    def device(self) -> torch.device:
        return self.network.scale_shift_table.device

    def noise_shape(self, samples: int) -> tuple[int, ...]:
        return self.network.noise_shape(samples)

    def sigmas(self, schedule: SigmaSchedule, steps: int) -> Tensor:
        return schedule.sigmas(steps)

    def starting_noise(self, samples: int, seed: int, sigmas: Tensor) -> Tensor:
        return starting_noise(self.noise_shape(samples), seed, sigmas[0]).to(self.device)

    def noise_time(self, sigma: float) -> float:
        return noise_time(sigma)

    def run(self, conditions: Sequence[str], *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> VideoRun:
        text, negative = (self.prompts.encode(prompts)[0] for prompts in (conditions, [""] * len(conditions)))
        return VideoRun(self.network, text, negative, noise=noise, sigmas=sigmas, cfg=cfg, solver=solver)
