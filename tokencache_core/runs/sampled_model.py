"""The interface of a model that the core can sample without a host, for code that does not care which model it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..blocks.spec import BlockSpec
from ..sampling.sigma_schedule import SigmaSchedule
from ..schedules.run_simulator import Fading
from .run import HELD_OUT_SEEDS, Run


class SampledModel(Protocol):
    """A network, and how to ask it for samples: by classes (`dit.sampled.SampledDiT`), by prompts
    (`flux.sampled.SampledFlux`), or by prompts with pictures (`flux.edits.SampledEdits`).
    """

    architecture: str  # as fingerprints name it
    asking: str  # which sample of a benchmark has which condition, in words
    fading: Fading  # of its runs
    is_pixels: bool  # whether samples are pictures, not latents of a VAE
    exact_schedule: SigmaSchedule  # of runs with so many steps that the schedule hardly matters

    @property
    def network(self) -> nn.Module: ...  # called once in each evaluation

    @property
    def blocks(self) -> Sequence[tuple[nn.Module, BlockSpec]]: ...

    @property
    def device(self) -> torch.device: ...

    def noise_shape(self, samples: int) -> tuple[int, ...]: ...

    @property
    def every(self) -> Sequence[Any]: ...  # all that it can be asked for, or examples

    def conditions(self, text: str | None) -> list[Any]:
        """The conditions that `text` asks for, one per sample; None: examples. ValueError for what the model does not
        know.
        """
        ...

    def conditions_apart(self, text: str | None) -> tuple[list[Any], list[Any]]:
        """The conditions to learn from, and those to measure on: both those of `text`; None: of all that the model
        knows, every fourth is for measuring.
        """
        ...

    def sigmas(self, schedule: SigmaSchedule, steps: int) -> Tensor:
        """(steps + 1,) sigmas of the model's own kind, falling to 0; ValueError for a schedule that is not for it."""
        ...

    def starting_noise(self, samples: int, seed: int, sigmas: Tensor) -> Tensor:
        """Noise (B, ...) on the model's device; sample i has the noise of seed + i."""
        ...

    def noise_time(self, sigma: float) -> float: ...  # sampling/noise_time.py

    def run(self, conditions: Sequence[Any], *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> Run: ...


class RandomRuns:
    """A function from a seed to a run of one batch, whose conditions and noise are drawn from the seed.

    training, measuring: the conditions for seeds below HELD_OUT_SEEDS, and for those from it on.
    batch: samples of a run.
    part: the number of this process, and of all processes; together their batches are one large batch.
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
    """All but every fourth, and every fourth; both are all if there are fewer than four."""
    kept = [each for index, each in enumerate(every) if index % 4 == 3]
    return ([each for index, each in enumerate(every) if index % 4 != 3], kept) if kept else (list(every), list(every))


class AskedApart:
    """The `conditions_apart` of every `SampledModel`."""

    every: Sequence[Any]
    conditions: Callable[[str | None], list[Any]]

    def conditions_apart(self, text: str | None) -> tuple[list[Any], list[Any]]:
        if text is None:
            return kept_apart(self.every)
        asked = self.conditions(text)
        return asked, asked
