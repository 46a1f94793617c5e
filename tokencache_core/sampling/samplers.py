"""Deterministic samplers over sigmas."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x, sigma) -> the predicted clean x


def sample_ddim(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """DDIM with eta 0 (Song et al., arXiv 2010.02502); in this parameterisation it is Euler's method."""
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:]):
        direction = (x - denoise(x, sigma)) / sigma
        x = x + direction * (sigma_next - sigma)
    return x


def sample_dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """DPM-Solver++(2M), the second-order multistep solver of Lu et al. (arXiv 2211.01095)."""
    last: tuple[Tensor, Tensor] | None = None  # predicted clean x and step of the step before
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:]):
        x0 = denoise(x, sigma)
        h = (sigma / sigma_next).log()  # step in log-SNR; infinite at the end
        towards = x0
        if last is not None and sigma_next > 0:
            last_x0, last_h = last
            towards = x0 + (x0 - last_x0) * (h / (2 * last_h))
        x = (sigma_next / sigma) * x - (-h).expm1() * towards
        last = x0, h
    return x


def sample_res_multistep(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """RES, the second-order exponential multistep solver of Zhang et al. (arXiv 2308.02157), without added noise.

    The first and the last step are Euler's method.
    """
    last: tuple[Tensor, Tensor] | None = None  # sigma and predicted clean x of the step before
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:]):
        clean = denoise(x, sigma)
        if last is None or sigma_next == 0:
            x = x + (x - clean) / sigma * (sigma_next - sigma)
        else:
            h = (sigma / sigma_next).log()  # step in log-SNR
            back = (last[0] / sigma).log() / h  # the step before, in steps
            phi1 = -(-h).expm1() / h
            phi2 = (1 - phi1) / h
            x = (-h).exp() * x + h * ((phi1 + phi2 / back) * clean - phi2 / back * last[1])
        last = sigma, clean
    return x


EULER = "ddim"  # the solver that is Euler's method
SOLVERS: dict[str, Callable[[Denoise, Tensor, Tensor], Tensor]] = {
    EULER: sample_ddim,
    "dpmpp_2m": sample_dpmpp_2m,
    "res_multistep": sample_res_multistep,
}


def starting_noise(shape: tuple[int, ...], seed: int, sigma_max: Tensor) -> Tensor:
    """Noise (B, C, H, W) at the start of a schedule.

    It is drawn sample by sample, with seeds from `seed` on, so that a sample does not depend on its batch.
    """
    draws = [torch.randn(shape[1:], generator=torch.Generator().manual_seed(seed + i)) for i in range(shape[0])]
    return torch.stack(draws) * (1 + sigma_max**2).sqrt()
