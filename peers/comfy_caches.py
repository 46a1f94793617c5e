"""EasyCache and LazyCache, run by their nodes in the real ComfyUI, in this process, on a MODEL that shares our model's
weights; they are compared with the host's own plain run, `full-host`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tokencache_core.bench.workload import SampledWorkload

from .host_models import host_blocks, host_conditionings, host_model
from .peer import ANY_MODEL, Peer, Settings


def with_input_of_its_own(model: Any) -> Any:
    """The MODEL with a network that is given a copy of x.

    EasyCache adds to its input where it stands. That is x itself in a flow model whose weights have x's own type, and
    the sampler would go on from what EasyCache left of it (pictures of 7 to 15 dB). In half precision, which most
    people sample in, the host makes the copy.
    """
    from comfy.patcher_extension import WrappersMP

    def with_copy(executor: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return executor(x.clone(), *args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "input of its own", with_copy)
    return model


def sample_on_host(
    workload: SampledWorkload, node: str | None = None, settings: Settings | None = None
) -> tuple[Tensor, float]:
    """The pictures (B, C, H, W) by the host's KSampler, and the compute share.

    node, settings: of `comfy_extras.nodes_easycache`, applied to the model before.
    """
    model = host_model(workload)
    if node is not None:
        nodes = importlib.import_module("comfy_extras.nodes_easycache")
        (model,) = getattr(nodes, node).execute(with_input_of_its_own(model), **(settings or {}), verbose=False).result
    return sample_model(model, workload)


@torch.no_grad()
def sample_model(model: Any, workload: SampledWorkload) -> tuple[Tensor, float]:
    """As `sample_on_host`, for a MODEL made by `host_model`."""
    import comfy.sample

    positive, negative = host_conditionings(model, workload)
    computed = 0

    def count(block: nn.Module, args: tuple, kwargs: dict) -> None:
        nonlocal computed
        computed += len(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)))

    blocks = host_blocks(model)
    for block in blocks:
        block.register_forward_pre_hook(count, with_kwargs=True)
    protocol = workload.protocol
    sigmas = workload.sigmas()
    start = torch.ones(1, 1, 1, 1)
    scaled = model.model.model_sampling.noise_scaling(sigmas[:1].view(1, 1, 1, 1), start, torch.zeros_like(start), True)
    latent = comfy.sample.sample(
        model,
        workload.noise / scaled.to(workload.noise),  # the host scales it itself
        protocol.steps,
        protocol.cfg,
        protocol.solver,
        "simple",
        positive,
        negative,
        torch.zeros_like(workload.noise),
        sigmas=sigmas,
        disable_pbar=True,
        seed=protocol.seed,
    )
    rows = protocol.samples * (1 if protocol.cfg == 1.0 else 2)
    share = computed / (rows * len(blocks) * protocol.steps)
    return model.model.process_latent_in(latent).to(workload.device), share


def full_host(workload: SampledWorkload, settings: Settings) -> tuple[Tensor, float]:
    return sample_on_host(workload)


def easycache(workload: SampledWorkload, settings: Settings) -> tuple[Tensor, float]:
    return sample_on_host(workload, "EasyCacheNode", settings)


def lazycache(workload: SampledWorkload, settings: Settings) -> tuple[Tensor, float]:
    return sample_on_host(workload, "LazyCacheNode", settings)


THRESHOLDS = (0.0, *(round(0.005 * 400 ** (i / 22), 4) for i in range(23)))
PEERS: tuple[Peer, ...] = (
    Peer(
        name="full-host",
        source="ComfyUI",
        run=full_host,
        knob="cache",
        knobs=("none",),
        baseline="full-host",
        models=ANY_MODEL,
    ),
    Peer(
        name="easycache",
        source="arXiv 2507.02860, ComfyUI EasyCache",
        run=easycache,
        baseline="full-host",
        models=ANY_MODEL,
        knob="reuse_threshold",
        knobs=THRESHOLDS,
        variants=({"start_percent": 0.0, "end_percent": 0.95}, {"start_percent": 0.15, "end_percent": 0.95}),
    ),
    Peer(
        name="lazycache",
        source="ComfyUI LazyCache",
        run=lazycache,
        baseline="full-host",
        models=ANY_MODEL,
        knob="reuse_threshold",
        knobs=THRESHOLDS,
        variants=({"start_percent": 0.0, "end_percent": 0.95},),
    ),
)
