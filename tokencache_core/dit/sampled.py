"""A DiT as a model that is asked for samples by their classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..blocks.spec import BlockSpec
from ..runs.sampled_model import AskedApart
from ..sampling.noise_time import noise_time
from ..sampling.samplers import starting_noise
from ..sampling.sigma_schedule import SigmaSchedule
from .class_labels import parse_labels
from .model import DiT
from .run import DIT_BLOCK, DiTRun

EXAMPLES = 10


class SampledDiT(AskedApart):
    """The `runs.sampled_model.SampledModel` of a DiT. names: of its classes, if it has any."""

    architecture, exact_schedule = "DiT", SigmaSchedule()
    fading = DiTRun.fading
    asking = "sample i has class i mod C, null class as negative"

    def __init__(self, network: DiT, names: tuple[str, ...] | None = None) -> None:
        self.network, self.names, self.is_pixels = network, names, network.is_pixels

    @property
    def blocks(self) -> list[tuple[nn.Module, BlockSpec]]:
        return [(block, DIT_BLOCK) for block in self.network.blocks]

    @property
    def device(self) -> torch.device:
        return self.network.pos_embed.device

    def noise_shape(self, samples: int) -> tuple[int, ...]:
        return self.network.noise_shape(samples)

    @property
    def every(self) -> range:
        return range(self.network.config.num_classes)

    def conditions(self, text: str | None) -> list[int]:
        """The classes in `text`, by index or name; None: the first ten."""
        if text is None:
            return list(self.every[:EXAMPLES])
        return parse_labels(text, self.network.config.num_classes, self.names)

    def sigmas(self, schedule: SigmaSchedule, steps: int) -> Tensor:
        return schedule.sigmas(steps)

    def starting_noise(self, samples: int, seed: int, sigmas: Tensor) -> Tensor:
        return starting_noise(self.noise_shape(samples), seed, sigmas[0]).to(self.device)

    def noise_time(self, sigma: float) -> float:
        return noise_time(sigma)

    def run(self, conditions: Sequence[int], *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> DiTRun:
        labels = torch.tensor(conditions, device=self.device)
        return DiTRun(self.network, labels, noise=noise, sigmas=sigmas, cfg=cfg, solver=solver)
