"""The workload of a benchmark: a model, labels and noise, sampled whole or with the cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..dit.model import DiT
from ..dit.sampling import cached_sample, sample
from ..engine.record import Report
from ..predictor.trained_parts import TrainedParts
from ..sampling.noise_time import noise_time
from ..sampling.samplers import starting_noise
from ..sampling.sigma_schedule import SigmaSchedule
from ..schedules.schedule import ExplicitSchedule
from ..settings import CacheSettings

EXACT_STEPS, EXACT_SOLVER = 200, "dpmpp_2m"
EXACT_SCHEDULE = SigmaSchedule()  # always the same, because the exact solution does not depend on the schedule


@dataclass(frozen=True)
class Protocol:
    """The user's choices of what to measure."""

    steps: int = 50
    samples: int = 6
    seed: int = 0
    solver: str = "ddim"
    cfg: float = 4.0
    repeats: int = 3
    speedups: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0)  # that every method's sweep aims at
    schedule: SigmaSchedule = SigmaSchedule()  # of every run but the exact one

    def __post_init__(self) -> None:
        for name, least in (("steps", 2), ("samples", 1), ("repeats", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.speedups or min(self.speedups) < 1:
            raise ValueError("the speed-ups to aim at must be 1 or more")


class Workload:
    """The samples of a benchmark: sample i has class i mod C and the noise of seed + i; all are one batch."""

    def __init__(self, model: DiT, protocol: Protocol) -> None:
        self.model, self.protocol = model, protocol
        self.device = model.pos_embed.device
        self.is_pixels = model.is_pixels
        self.labels = (torch.arange(protocol.samples) % model.config.num_classes).to(self.device)
        # runs of any number of steps start at the same sigma, and so from the same noise
        self.noise = starting_noise(model.noise_shape(protocol.samples), protocol.seed, self.sigmas()[0]).to(
            self.device
        )

    def sigmas(self, steps: int | None = None) -> Tensor:
        """The sigmas (steps + 1,) of the protocol's schedule, by default for the steps of the full run."""
        return self.protocol.schedule.sigmas(steps or self.protocol.steps)

    def taus(self) -> list[float]:
        """The noise times of the full run's steps."""
        return [noise_time(sigma) for sigma in self.sigmas()[:-1].tolist()]

    def full(self, steps: int, solver: str) -> Tensor:
        """The samples (B, C, H, W) of the unpatched model."""
        return self._whole(self.sigmas(steps), solver)

    def exact(self) -> Tensor:
        """The samples (B, C, H, W) from the same noise in steps so fine that the solver's own error is small."""
        return self._whole(EXACT_SCHEDULE.sigmas(EXACT_STEPS), EXACT_SOLVER)

    def cached(
        self,
        settings: CacheSettings,
        i_steps: tuple[int, ...],
        steps: int | None = None,
        learned: TrainedParts = TrainedParts(),
    ) -> tuple[Tensor, Report]:
        return cached_sample(
            self.model,
            self.labels,
            noise=self.noise,
            sigmas=self.sigmas(steps),
            cfg=self.protocol.cfg,
            solver=self.protocol.solver,
            settings=settings,
            schedule=ExplicitSchedule(i_steps),
            learned=learned,
        )

    def _whole(self, sigmas: Tensor, solver: str) -> Tensor:
        return sample(self.model, self.labels, noise=self.noise, sigmas=sigmas, cfg=self.protocol.cfg, solver=solver)

    def synchronize(self) -> None:
        """Wait for the device to finish, so that the clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
