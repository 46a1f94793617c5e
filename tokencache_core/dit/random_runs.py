"""Random runs of a DiT, for training and measuring: classes and noise are drawn from a seed."""

from __future__ import annotations

import torch

from ..runs.run import HELD_OUT_SEEDS
from ..sampling.samplers import starting_noise
from ..sampling.sigma_schedule import SigmaSchedule
from .class_labels import parse_labels
from .model import DiT
from .run import DiTRun


class DrawnRuns:
    """A function from a seed to a run of one batch.

    model: the DiT.
    training: the classes of seeds below HELD_OUT_SEEDS.
    measuring: the classes of seeds from HELD_OUT_SEEDS on.
    batch: samples of one run.
    steps, cfg, solver, schedule: of the runs.
    part: this process's index, and the number of processes that train together, each on its own part of a batch that is
        so many times as large.
    """

    def __init__(
        self,
        model: DiT,
        training: list[int],
        measuring: list[int],
        *,
        batch: int,
        steps: int,
        cfg: float,
        solver: str,
        schedule: SigmaSchedule = SigmaSchedule(),
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.model, self.batch, self.cfg, self.solver, self.part = model, batch, cfg, solver, part
        self.training, self.measuring = torch.tensor(training), torch.tensor(measuring)
        self.sigmas = schedule.sigmas(steps)

    def __call__(self, seed: int) -> DiTRun:
        device = self.model.pos_embed.device
        labels = self.training if seed < HELD_OUT_SEEDS else self.measuring
        rank, processes = self.part
        drawn = torch.randint(len(labels), (processes * self.batch,), generator=torch.Generator().manual_seed(seed))
        drawn = drawn[rank * self.batch : (rank + 1) * self.batch]
        noise = starting_noise(
            self.model.noise_shape(self.batch), (seed * processes + rank) * self.batch, self.sigmas[0]
        )
        return DiTRun(
            self.model,
            labels[drawn].to(device),
            noise=noise.to(device),
            sigmas=self.sigmas,
            cfg=self.cfg,
            solver=self.solver,
        )


def labels_apart(text: str | None, num_classes: int, names: tuple[str, ...] | None) -> tuple[list[int], list[int]]:
    """The classes to train on and to measure on: those in `text` for both, or every fourth only for measuring."""
    if text is not None:
        chosen = parse_labels(text, num_classes, names)
        return chosen, chosen
    every = range(num_classes)
    held_out = [label for label in every if label % 4 == 3]
    if not held_out:
        return list(every), list(every)
    return [label for label in every if label % 4 != 3], held_out
