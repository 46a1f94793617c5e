"""The noise time: one variable for how noisy a latent is, the same for eps, v and flow models.

A forecast is a polynomial in some variable, and which one is worth several dB on schedules whose steps lie unevenly; a
flow model's own timestep is a bad one (docs/experiments.md). The noise time depends on the signal-to-noise ratio alone:
it is the continuous time at which the variance-preserving diffusion of Song et al. (arXiv 2011.13456, equation 33; beta
from 0.1 to 20) is as noisy, so that for a DDPM model it is the timestep, scaled to [0, 1].
"""

from __future__ import annotations

from math import exp, log, sqrt

BETA_FIRST, BETA_LAST = 0.1, 20.0
LEFT = 1 / (
    exp((BETA_FIRST + BETA_LAST) / 2) - 1
)  # taken to be left of the signal in noise alone, so that its time is 1


def noise_time(sigma: float) -> float:
    """From 0 (clean) to 1 (noise alone), rising. sigma: the noise's size in units of the signal's, 0 or more, or
    infinite.
    """
    if not sigma >= 0:
        raise ValueError(f"sigma is the noise's size, 0 or more, not {sigma}")
    signal = 1 / (1 + sigma**2)
    integral = log((1 + LEFT) / (signal + LEFT))  # of beta, from 0 to the time
    slope = BETA_LAST - BETA_FIRST
    return (sqrt(BETA_FIRST**2 + 2 * slope * integral) - BETA_FIRST) / slope


def noise_ratio(time: float) -> float:
    """The sigma at a noise time between 0 and 1: the inverse of `noise_time`."""
    integral = BETA_FIRST * time + (BETA_LAST - BETA_FIRST) * time**2 / 2
    signal = (1 + LEFT) * exp(-integral) - LEFT
    return sqrt(max(0.0, 1 / signal - 1)) if signal > 0 else float("inf")


def flow_ratio(sigma: float) -> float:
    """The noise's size in units of the signal's where x = (1 - sigma) * clean + sigma * noise, as in flow matching."""
    return sigma / (1 - sigma) if sigma < 1 else float("inf")
