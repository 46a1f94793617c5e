"""What one benchmark run samples: a model, labels, noise and steps, whole or through the cache."""

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
EXACT_SCHEDULE = SigmaSchedule()  # the same for all: whichever way a run goes, the solution is one


@dataclass(frozen=True)
class Protocol:
    """What the user chose to measure."""

    steps: int = 50
    samples: int = 6
    seed: int = 0
    solver: str = "ddim"
    cfg: float = 4.0
    repeats: int = 3
    speedups: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0)  # what every method's sweep aims at
    schedule: SigmaSchedule = SigmaSchedule()  # of every run but the exact one

    def __post_init__(self) -> None:
        for name, least in (("steps", 2), ("samples", 1), ("repeats", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.speedups or min(self.speedups) < 1:
            raise ValueError("speed-ups to aim at must be 1 or more")


class Workload:
    """Sample i has class i mod C and its own noise from seed + i; all samples go through in one batch."""

    def __init__(self, model: DiT, protocol: Protocol) -> None:
        self.model, self.protocol = model, protocol
        self.device = model.pos_embed.device
        self.is_pixels = model.is_pixels
        self.labels = (torch.arange(protocol.samples) % model.config.num_classes).to(self.device)
        # every step count starts at the same sigma, so one noise serves them all
        self.noise = starting_noise(model.noise_shape(protocol.samples), protocol.seed, self.sigmas()[0]).to(
            self.device
        )

    def sigmas(self, steps: int | None = None) -> Tensor:
        """(steps + 1,) of the protocol's schedule, by default for the steps of the full run."""
        return self.protocol.schedule.sigmas(steps or self.protocol.steps)

    def taus(self) -> list[float]:
        """Noise times of the full run's steps."""
        return [noise_time(sigma) for sigma in self.sigmas()[:-1].tolist()]

    def full(self, steps: int, solver: str) -> Tensor:
        """Every block and token, on the unpatched model: (B, C, H, W)."""
        return self._whole(self.sigmas(steps), solver)

    def exact(self) -> Tensor:
        """The same noise followed so finely that the solver's own error is small."""
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
        """Wait for the device, so that a clock read now has seen the work done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
