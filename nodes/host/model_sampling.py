"""What the host's model sampling says of a MODEL: how noisy x is at a sigma, and how its network is given x."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_sampling
import torch
from comfy.model_patcher import ModelPatcher

from ...tokencache_core.sampling.noise_time import flow_ratio, noise_time
from ...tokencache_core.schedules.run_simulator import FLOW_FADING, USUAL_FADING, Fading


def tau_function(patcher: ModelPatcher) -> Callable[[float], float]:
    """The function from a sigma of this MODEL to its noise time."""
    sampling = patcher.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.CONST):
        return lambda sigma: noise_time(flow_ratio(sigma))
    signal = getattr(sampling, "sigma_data", 1.0)
    return lambda sigma: noise_time(sigma / signal)


def of_unit_variance(sampling: Any, sigma: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """x (R, ...) scaled to a variance of about 1 at every sigma (R,): what most networks are given."""
    unscaled = getattr(comfy.model_sampling, "V_PREDICTION_DDPM", ())  # the host gives such networks x as it is
    if isinstance(sampling, unscaled):
        return x / (sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2 + 1) ** 0.5
    return sampling.calculate_input(sigma, x)


def input_scale(patcher: ModelPatcher, sigma: float) -> float:
    """What x at `sigma` is multiplied by before this MODEL's network is given it."""
    return float(of_unit_variance(patcher.get_model_object("model_sampling"), torch.tensor([sigma]), torch.ones(1)))


def usual_fading(patcher: ModelPatcher) -> Fading:
    """How errors fade in a MODEL's runs, as in `RunSimulator`, where nobody has measured it."""
    is_flow = isinstance(patcher.get_model_object("model_sampling"), comfy.model_sampling.CONST)
    return FLOW_FADING if is_flow else USUAL_FADING
