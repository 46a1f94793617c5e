"""Runs of a tiny DiT."""

from __future__ import annotations

import torch

from tokencache_core.dit.run import DiTRun
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise


def run_of(model, steps: int = 4) -> DiTRun:
    sigmas = simple_sigmas(steps)
    noise = starting_noise((2, 4, 8, 8), 3, sigmas[0])
    return DiTRun(model, torch.tensor([0, 3]), noise=noise, sigmas=sigmas, cfg=2.0, solver="ddim")
