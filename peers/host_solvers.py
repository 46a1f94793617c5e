"""The host's own solvers on full steps of our model, to compare the cache with a better solver in fewer steps.

Each evaluates the network once per step, as ours do, and is called as by ComfyUI's KSampler, on the workload's sigmas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tokencache_core.bench.workload import SampledWorkload
from tokencache_core.runs.network_run import NetworkRun

from .host_models import import_host

Solver = Callable[[SampledWorkload, int], Tensor]  # the pictures (B, C, H, W) of a workload in so many steps


def host_solvers(device: torch.device) -> Mapping[str, Solver]:
    """uni_pc and deis by name; ImportError or RuntimeError if there is no host, or it uses another device."""
    import_host(device)
    from comfy.extra_samplers.uni_pc import sample_unipc
    from comfy.k_diffusion.sampling import sample_deis

    return {
        "uni_pc": lambda workload, steps: _solve(
            sample_unipc, workload, without_the_last_but_one(workload.sigmas(steps + 1))
        ),
        "deis": lambda workload, steps: _solve(sample_deis, workload, workload.sigmas(steps)),
    }


def without_the_last_but_one(sigmas: Tensor) -> Tensor:
    """The sigmas (steps + 1,) without the last one above 0, from (steps + 2,).

    KSampler omits it for uni_pc, which ends a little above 0 itself.
    """
    return torch.cat([sigmas[:-2], sigmas[-1:]])


@torch.no_grad()
def _solve(sampler: Callable[..., Tensor], workload: SampledWorkload, sigmas: Tensor) -> Tensor:
    run = workload.run(sigmas, workload.protocol.solver)
    assert isinstance(run, NetworkRun)

    def model(x: Tensor, sigma: Tensor, **options: Any) -> Tensor:  # sigma: (B,), of one value
        return run.denoise(x, sigma[0])

    noise = workload.noise.clone()  # uni_pc writes into its arguments, also into the sigmas
    return sampler(model, noise, sigmas.clone().to(noise.device), extra_args={}, disable=True)
