"""Sigma schedules: ComfyUI's schedulers and a flow model's shifted schedule, on DiT's noise schedule.

The curves are those of ComfyUI (comfy/samplers.py, comfy/k_diffusion/sampling.py), whose tables differ from ours only
by rounding. Every curve starts at the model's largest sigma, so that the same noise can be used for all of them and for
all step counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .noise_schedule import TRAIN_STEPS, simple_sigmas, train_sigmas

RHO = 7.0  # of Karras et al., arXiv 2206.00364, equation 5
BETA = 0.6  # both parameters of the beta distribution, as in ComfyUI
BETA_POINTS = 8192  # number of points for the integration of its density


@dataclass(frozen=True)
class SigmaSchedule:
    """A sigma schedule.

    name: one of SCHEDULES.
    shift: of `flow` only, above 0; None is the same as 1, no shift.
    """

    name: str = "ddpm"
    shift: float | None = None

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise ValueError(f"there is no schedule {self.name!r}: choose one of {', '.join(SCHEDULES)}")
        if self.shift is None:
            return
        if self.name != FLOW:
            raise ValueError(
                f"a shift is only for the schedule {FLOW}, not for {self.name}: leave it out, or choose {FLOW}"
            )
        if not 0 < self.shift < math.inf:
            raise ValueError(f"the shift must be above 0, not {self.shift:g}: 1 is no shift, 3 is usual for pictures")

    def __str__(self) -> str:
        return self.name if self.name != FLOW else f"{self.name}, shift {self._shift:g}"

    def sigmas(self, steps: int) -> Tensor:
        """(steps + 1,) float32 sigmas, falling from the model's largest to 0.

        ValueError if the schedule does not support this number of steps.
        """
        if not 1 <= steps <= TRAIN_STEPS:
            raise ValueError(f"steps must lie between 1 and {TRAIN_STEPS}, not {steps}")
        sigmas = flow_sigmas(steps, self._shift) if self.name == FLOW else SCHEDULES[self.name](steps)
        return torch.cat([sigmas.float(), torch.zeros(1)])

    @property
    def _shift(self) -> float:
        return 1.0 if self.shift is None else self.shift


def flow_sigmas(steps: int, shift: float = 1.0) -> Tensor:
    """(steps,) sigmas of a flow model's schedule (Esser et al., arXiv 2403.03206, equation 23), in this model's noise.

    s falls evenly from 1, in whole thousandths as in ComfyUI's `simple` scheduler for flow models. It is shifted to
    s' = shift s / (1 + (shift - 1) s), the share of noise in (1 - s') x0 + s' noise, which has the sigma s' / (1 - s').
    That is infinite at s = 1, so the model's largest sigma is taken there. If further values exceed the model's largest
    sigma, because of many steps or a large shift, they are spaced evenly in s between it and the first sigma below.
    """
    largest = float(train_sigmas()[-1])
    s = [1 - int(step * TRAIN_STEPS / steps) / TRAIN_STEPS for step in range(steps)]
    s_max = largest / (largest + shift)  # the s of the largest sigma, from sigma = shift s / (1 - s)
    above = sum(each >= s_max for each in s)
    below = s[above] if above < steps else 0.0
    s[:above] = [s_max + (below - s_max) * step / above for step in range(above)]
    return torch.tensor([largest, *(shift * each / (1 - each) for each in s[1:])], dtype=torch.float64)


def _ddpm(steps: int) -> Tensor:
    return simple_sigmas(steps)[:-1]


def _karras(steps: int) -> Tensor:
    smallest, largest = _ends()
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return (largest ** (1 / RHO) + ramp * (smallest ** (1 / RHO) - largest ** (1 / RHO))) ** RHO


def _exponential(steps: int) -> Tensor:
    smallest, largest = _ends()
    return torch.linspace(math.log(largest), math.log(smallest), steps, dtype=torch.float64).exp()


def _kl_optimal(steps: int) -> Tensor:
    """Evenly spaced in atan sigma (Sabour et al., arXiv 2404.14507, appendix)."""
    smallest, largest = _ends()
    return torch.linspace(math.atan(largest), math.atan(smallest), steps, dtype=torch.float64).tan()


def _normal(steps: int) -> Tensor:
    return _at_timesteps(torch.linspace(TRAIN_STEPS - 1, 0, steps, dtype=torch.float64))


def _sgm_uniform(steps: int) -> Tensor:
    return _at_timesteps(torch.linspace(TRAIN_STEPS - 1, 0, steps + 1, dtype=torch.float64)[:-1])


def _beta(steps: int) -> Tensor:
    """Whole timesteps at evenly spaced quantiles of a beta distribution (Lee et al., arXiv 2407.12173)."""
    low = _beta_quantiles(torch.arange(steps, dtype=torch.float64) / steps)
    timesteps = ((TRAIN_STEPS - 1) * (1 - low)).round().long()  # 1 - low: the distribution is symmetric
    if len(timesteps.unique()) < steps:
        raise ValueError(
            f"the schedule beta does not have {steps} different timesteps, since they lie too close together at its "
            "ends: take fewer steps"
        )
    return train_sigmas()[timesteps]


def _beta_quantiles(shares: Tensor) -> Tensor:
    """The quantiles of beta(BETA, BETA) at `shares`, float64.

    With x = sin^2(angle) and w = angle^(2 BETA), its density is smooth in w up to the middle, where it is integrated by
    the trapezoidal rule.
    """
    w = torch.linspace(0, (math.pi / 4) ** (2 * BETA), BETA_POINTS, dtype=torch.float64)
    angle = w ** (1 / (2 * BETA))
    density = torch.ones_like(w)
    density[1:] = (angle.sin() * angle.cos() / angle)[1:] ** (2 * BETA - 1)
    half = torch.cumulative_trapezoid(density, w)
    reached = 0.5 * torch.cat([torch.zeros(1, dtype=torch.float64), half / half[-1]])
    mirrored = torch.minimum(shares, 1 - shares)
    right = torch.searchsorted(reached, mirrored).clamp(1, BETA_POINTS - 1)
    between = (mirrored - reached[right - 1]) / (reached[right] - reached[right - 1])
    x = (w[right - 1] + between * (w[right] - w[right - 1])).pow(1 / (2 * BETA)).sin() ** 2
    return torch.where(shares <= 0.5, x, 1 - x)


def _at_timesteps(timesteps: Tensor) -> Tensor:
    """Sigmas at timesteps, interpolated linearly in log sigma between whole ones."""
    logs = train_sigmas().double().log()
    below = timesteps.floor().long()
    above = timesteps.ceil().long()
    return torch.lerp(logs[below], logs[above], timesteps - below).exp()


def _ends() -> tuple[float, float]:
    """The model's smallest and largest sigma."""
    return float(train_sigmas()[0]), float(train_sigmas()[-1])


FLOW = "flow"
SCHEDULES: dict[str, Callable[[int], Tensor]] = {
    "ddpm": _ddpm,
    FLOW: flow_sigmas,
    "karras": _karras,
    "exponential": _exponential,
    "normal": _normal,
    "sgm_uniform": _sgm_uniform,
    "beta": _beta,
    "kl_optimal": _kl_optimal,
}
