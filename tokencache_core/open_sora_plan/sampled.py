"""A small text-to-video model as a model that is asked for clips by prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..blocks.spec import BlockSpec
from ..flux.prompts import PromptTable
from ..runs.sampled_model import kept_apart
from ..sampling.noise_time import noise_time
from ..sampling.samplers import starting_noise
from ..sampling.sigma_schedule import SigmaSchedule
from ..settings import DEFAULTS
from .model import VideoTransformer
from .run import COLUMN_BLOCK, VideoRun

EXAMPLES = 10


class SampledVideo:
    """The seam `runs.sampled_model.SampledModel` for a video transformer that brings its own words."""

    architecture, exact_schedule = "Open-Sora-Plan", SigmaSchedule()
    usual_settings = DEFAULTS
    asking = "sample i has example i mod C, the empty prompt as negative"

    def __init__(self, network: VideoTransformer, prompts: PromptTable) -> None:
        self.network, self.prompts, self.is_pixels = network, prompts, network.config.is_pixels

    @property
    def blocks(self) -> list[tuple[nn.Module, BlockSpec]]:
        return [(block, COLUMN_BLOCK) for block in self.network.blocks]

    @property
    def device(self) -> torch.device:
        return self.network.scale_shift_table.device

    def noise_shape(self, samples: int) -> tuple[int, ...]:
        return self.network.noise_shape(samples)

    @property
    def every(self) -> tuple[str, ...]:
        """The file's examples of prompts."""
        return self.prompts.examples

    def conditions(self, text: str | None) -> list[str]:
        """Prompts, between commas; the first ten of the file's examples."""
        if text is None:
            return list(self.every[:EXAMPLES])
        asked = [each.strip() for each in text.split(",")]
        for prompt in asked:
            self.prompts.rows(prompt)
        return asked

    def conditions_apart(self, text: str | None) -> tuple[list[str], list[str]]:
        if text is None:
            return kept_apart(self.every)
        asked = self.conditions(text)
        return asked, asked

    def sigmas(self, schedule: SigmaSchedule, steps: int) -> Tensor:
        return schedule.sigmas(steps)

    def starting_noise(self, samples: int, seed: int, sigmas: Tensor) -> Tensor:
        return starting_noise(self.noise_shape(samples), seed, sigmas[0]).to(self.device)

    def noise_time(self, sigma: float) -> float:
        return noise_time(sigma)

    def scale(self, sigma: float) -> float:
        return (1 + sigma**2) ** -0.5

    def run(self, conditions: Sequence[str], *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> VideoRun:
        text, negative = (self.prompts.encode(prompts)[0] for prompts in (conditions, [""] * len(conditions)))
        return VideoRun(self.network, text, negative, noise=noise, sigmas=sigmas, cfg=cfg, solver=solver)
