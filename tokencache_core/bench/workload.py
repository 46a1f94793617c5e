"""What one benchmark run samples: a model, conditions, noise and steps, in full or through the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..dit.model import DiT
from ..dit.sampled import SampledDiT
from ..engine.record import Report
from ..predictor.trained_parts import TrainedParts
from ..runs.cached_sampling import sample_cached
from ..runs.run import Run
from ..runs.sampled_model import SampledModel
from ..sampling.sigma_schedule import SigmaSchedule
from ..schedules.schedule import ExplicitSchedule
from ..settings import CacheSettings

EXACT_STEPS, EXACT_SOLVER = 200, "dpmpp_2m"


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
    compared: tuple[float, ...] = (2.0, 3.0, 4.0)  # speed-ups at which sweeps are compared
    schedule: SigmaSchedule = SigmaSchedule()  # of every run but the exact one

    def __post_init__(self) -> None:
        for name, least in (("steps", 2), ("samples", 1), ("repeats", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for speedups in (self.speedups, self.compared):
            if not speedups or min(speedups) < 1:
                raise ValueError("speed-ups must be 1 or more")


class SampledWorkload:
    """Samples that go through in one batch; sample i has condition i mod C and its own noise, from seed + i.

    conditions: those to ask for in turn; by default all that the model can be asked for.
    """

    def __init__(self, sampled: SampledModel, protocol: Protocol, conditions: Sequence[Any] = ()) -> None:
        self.sampled, self.protocol = sampled, protocol
        every = conditions or sampled.every
        self.conditions = [every[sample % len(every)] for sample in range(protocol.samples)]
        self.device, self.is_pixels = sampled.device, sampled.is_pixels
        # every step count starts at the same sigma, so one noise serves them all
        self.noise = sampled.starting_noise(protocol.samples, protocol.seed, self.sigmas())

    @property
    def blocks(self) -> list[nn.Module]:
        return [block for block, _ in self.sampled.blocks]

    def sigmas(self, steps: int | None = None) -> Tensor:
        """(steps + 1,) of the protocol's schedule, by default for the steps of the full run."""
        return self.sampled.sigmas(self.protocol.schedule, steps or self.protocol.steps)

    def taus(self) -> list[float]:
        """Noise times of the full run's steps."""
        return [self.sampled.noise_time(sigma) for sigma in self.sigmas()[:-1].tolist()]

    @torch.no_grad()
    def full(self, steps: int, solver: str) -> Tensor:
        """Every block and token, on the unpatched model: (B, C, H, W)."""
        return self.run(self.sigmas(steps), solver).sample(lambda denoise: denoise)

    @torch.no_grad()
    def exact(self) -> Tensor:
        """The same noise followed so finely that the solver's own error is small."""
        sigmas = self.sampled.sigmas(self.sampled.exact_schedule, EXACT_STEPS)
        return self.run(sigmas, EXACT_SOLVER).sample(lambda denoise: denoise)

    def cached(
        self,
        settings: CacheSettings,
        i_steps: tuple[int, ...],
        steps: int | None = None,
        learned: TrainedParts = TrainedParts(),
    ) -> tuple[Tensor, Report]:
        run = self.run(self.sigmas(steps), self.protocol.solver)
        return sample_cached(run, settings, ExplicitSchedule(i_steps), learned=learned)

    def run(self, sigmas: Tensor, solver: str) -> Run:
        return self.sampled.run(self.conditions, noise=self.noise, sigmas=sigmas, cfg=self.protocol.cfg, solver=solver)

    def synchronize(self) -> None:
        """Wait for the device to finish, so that the clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Workload(SampledWorkload):
    """Of a DiT, as others' methods need it: with its classes as labels (B,)."""

    def __init__(self, model: DiT, protocol: Protocol, conditions: Sequence[int] = ()) -> None:
        super().__init__(SampledDiT(model), protocol, conditions)
        self.model = model
        self.labels = torch.tensor(self.conditions, device=self.device)


def workload_of(sampled: SampledModel, protocol: Protocol, conditions: Sequence[Any] = ()) -> SampledWorkload:
    """ValueError for a schedule that is none of the model's kind. conditions: as for `SampledWorkload`."""
    network = sampled.network
    if isinstance(network, DiT):
        return Workload(network, protocol, conditions)
    return SampledWorkload(sampled, protocol, conditions)
