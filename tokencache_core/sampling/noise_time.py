"""The noise time: a measure of the noise in a latent that is the same for eps, v and flow models.

A forecast is a polynomial in some variable. On schedules with uneven steps, the choice of that variable makes a
difference of several dB, and a flow model's own timestep is a bad choice (docs/findings/places.md). The noise time
depends only on the signal-to-noise ratio: it is the continuous time at which the variance-preserving diffusion of Song
et al. (arXiv 2011.13456, equation 33; beta from 0.1 to 20) has the same ratio. For a DDPM model it is therefore the
timestep, scaled to [0, 1].
"""

from __future__ import annotations

from math import exp, log, sqrt

BETA_FIRST, BETA_LAST = 0.1, 20.0
# share of the signal that is assumed to be left in pure noise, so that the time of pure noise is 1
LEFT = 1 / (exp((BETA_FIRST + BETA_LAST) / 2) - 1)


def noise_time(sigma: float) -> float:
    """The noise time of a sigma, from 0 (clean) to 1 (pure noise).

    sigma: the noise in units of the signal, 0 or more, or infinite.
    """
    if not sigma >= 0:
        raise ValueError(f"sigma must be 0 or more, not {sigma}")
    signal = 1 / (1 + sigma**2)
    integral = log((1 + LEFT) / (signal + LEFT))  # of beta, from 0 to the time
    slope = BETA_LAST - BETA_FIRST
    return (sqrt(BETA_FIRST**2 + 2 * slope * integral) - BETA_FIRST) / slope


def noise_ratio(time: float) -> float:
    """The sigma at a noise time between 0 and 1: the inverse of `noise_time`."""
    integral = BETA_FIRST * time + (BETA_LAST - BETA_FIRST) * time**2 / 2
    signal = (1 + LEFT) * exp(-integral) - LEFT
    return sqrt(max(0.0, 1 / signal - 1)) if signal > 0 else float("inf")


def unit_variance(sigma: float) -> float:
    """What a DDPM model's x = clean + sigma * noise is multiplied by before its network is given it."""
    return (1 + sigma**2) ** -0.5


def flow_ratio(sigma: float) -> float:
    """The noise in units of the signal, if x = (1 - sigma) * clean + sigma * noise, as in flow matching."""
    return sigma / (1 - sigma) if sigma < 1 else float("inf")
