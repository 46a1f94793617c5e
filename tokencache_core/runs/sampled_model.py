"""A model that the core can sample without a host, as everything knows it that does not care which one it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..blocks.spec import BlockSpec
from ..sampling.sigma_schedule import SigmaSchedule
from .run import HELD_OUT_SEEDS, Run


class SampledModel(Protocol):
    """A network, and how it is asked for samples: by classes, `dit.sampled.SampledDiT`; by prompts,
    `flux.sampled.SampledFlux`, or by prompts with pictures, `flux.edits.SampledEdits`.
    """

    architecture: str  # as fingerprints name it
    asking: str  # which sample of a benchmark has which condition
    dampings: tuple[float, ...]  # as of its runs
    is_pixels: bool  # samples are pictures themselves, not latents of a VAE
    exact_schedule: SigmaSchedule  # of runs so fine that the schedule hardly matters

    @property
    def network(self) -> nn.Module: ...  # called once at each evaluation

    @property
    def blocks(self) -> Sequence[tuple[nn.Module, BlockSpec]]: ...

    @property
    def device(self) -> torch.device: ...

    def noise_shape(self, samples: int) -> tuple[int, ...]: ...

    @property
    def every(self) -> Sequence[Any]: ...  # all that it can be asked for, or examples

    def conditions(self, text: str | None) -> list[Any]:
        """What `text` asks for, sample by sample; None: examples. ValueError for what the model does not know."""
        ...

    def conditions_apart(self, text: str | None) -> tuple[list[Any], list[Any]]:
        """Conditions to learn from and to measure on: those of `text` for both, or all, every fourth for measuring."""
        ...

    def sigmas(self, schedule: SigmaSchedule, steps: int) -> Tensor:
        """(steps + 1,), falling to 0, in this model's own terms; ValueError for a schedule that is none of its kind."""
        ...

    def starting_noise(self, samples: int, seed: int, sigmas: Tensor) -> Tensor:
        """(B, ...) on the model's device; sample i has the noise of seed + i."""
        ...

    def noise_time(self, sigma: float) -> float: ...  # sampling/noise_time.py

    def run(self, conditions: Sequence[Any], *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> Run: ...


class RandomRuns:
    """From a seed to a run of one batch: of conditions to learn from, or of those to measure on from HELD_OUT_SEEDS on.

    part: which of how many processes draws; the batches of all together are one of so many times the samples.
    """

    def __init__(
        self,
        model: SampledModel,
        training: Sequence[Any],
        measuring: Sequence[Any],
        *,
        batch: int,
        steps: int,
        cfg: float,
        solver: str,
        schedule: SigmaSchedule = SigmaSchedule(),
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.model, self.batch, self.cfg, self.solver, self.part = model, batch, cfg, solver, part
        self.training, self.measuring = training, measuring
        self.sigmas = model.sigmas(schedule, steps)

    def __call__(self, seed: int) -> Run:
        conditions = self.training if seed < HELD_OUT_SEEDS else self.measuring
        rank, processes = self.part
        drawn = torch.randint(len(conditions), (processes * self.batch,), generator=torch.Generator().manual_seed(seed))
        chosen = [conditions[index] for index in drawn[rank * self.batch : (rank + 1) * self.batch].tolist()]
        noise = self.model.starting_noise(self.batch, (seed * processes + rank) * self.batch, self.sigmas)
        return self.model.run(chosen, noise=noise, sigmas=self.sigmas, cfg=self.cfg, solver=self.solver)


def kept_apart(every: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """All but every fourth of them, and every fourth; both are all where there are fewer than four."""
    kept = [each for index, each in enumerate(every) if index % 4 == 3]
    return ([each for index, each in enumerate(every) if index % 4 != 3], kept) if kept else (list(every), list(every))


class AskedApart:
    """What every `SampledModel` can be asked for, one part to learn from and one to measure on."""

    every: Sequence[Any]
    conditions: Callable[[str | None], list[Any]]

    def conditions_apart(self, text: str | None) -> tuple[list[Any], list[Any]]:
        if text is None:
            return kept_apart(self.every)
        asked = self.conditions(text)
        return asked, asked
