"""The host's own solvers on whole steps of our DiT: what the time of a cached run buys with a better solver and fewer steps.

Each evaluates the network once a step, as ours do, and is called as ComfyUI's KSampler calls it, on the workload's sigmas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tokencache_core.bench_workload import Workload
from tokencache_core.sampling import Denoise, guided_denoiser

from .comfy_caches import import_host

Solver = Callable[[Workload, int], Tensor]      # the pictures (B, C, H, W) of a workload in so many steps


class HostDenoiser:
    """Our denoiser in the form in which the host's samplers call a model: x (B, C, H, W) and sigma (B,) -> the clean x.

    res_multistep also looks up the model's sampling, for a scale of its noise; it adds none here, and this has no such scale.
    """

    def __init__(self, denoise: Denoise) -> None:
        self.denoise = denoise
        self.inner_model = self.model_patcher = self

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        return self.denoise(x, sigma[0])

    def get_model_object(self, name: str) -> HostDenoiser:
        return self


def host_solvers(device: torch.device) -> Mapping[str, Solver]:
    """uni_pc, deis and res_multistep by name; ImportError or RuntimeError where there is no host, or one that has settled on another device."""
    import_host(device)
    import comfy.k_diffusion.sampling as k_diffusion
    from comfy.extra_samplers.uni_pc import sample_unipc

    return {
        "uni_pc": lambda workload, steps: _solve(sample_unipc, workload, without_the_last_but_one(workload.sigmas(steps + 1))),
        "deis": lambda workload, steps: _solve(k_diffusion.sample_deis, workload, workload.sigmas(steps)),
        "res_multistep": lambda workload, steps: _solve(k_diffusion.sample_res_multistep, workload, workload.sigmas(steps)),
    }


def without_the_last_but_one(sigmas: Tensor) -> Tensor:
    """(steps + 1,) of (steps + 2,) sigmas: KSampler leaves the last one above 0 out for uni_pc, which ends a little above 0 itself."""
    return torch.cat([sigmas[:-2], sigmas[-1:]])


@torch.no_grad()
def _solve(sampler: Callable[..., Tensor], workload: Workload, sigmas: Tensor) -> Tensor:
    denoise = guided_denoiser(workload.model, workload.labels, workload.protocol.cfg)
    noise = workload.noise.clone()      # uni_pc writes into what it is given, the sigmas too
    return sampler(HostDenoiser(denoise), noise, sigmas.clone().to(noise.device), extra_args={}, disable=True)
