"""First-block cache, TaylorSeer and MagCache as diffusers implements them, hooked onto a wrapper of our DiT.

Guidance runs both conditionings in one batch, so there is one cache context for the whole run.
"""

from __future__ import annotations

import ast
import io
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.hooks.first_block_cache import FirstBlockCacheConfig
from diffusers.hooks.hooks import HookRegistry
from diffusers.hooks.mag_cache import MagCacheConfig
from diffusers.hooks.taylorseer_cache import TaylorSeerCacheConfig
from diffusers.models.cache_utils import CacheMixin
from torch import Tensor

from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.dit.model import DiT

from .peer import Peer, Settings
from .wrapped_dit import WrappedBlock, WrappedDiT

TransformerBlockRegistry.register(
    model_class=WrappedBlock, metadata=TransformerBlockMetadata(return_hidden_states_index=0)
)

CALIBRATION_SEED, CALIBRATION_SAMPLES = 10_000, 2  # other noise than the benchmark's


class HookedDiT(CacheMixin, WrappedDiT):
    """The wrapper with diffusers' public interface for caches."""


def sample_hooked(workload: Workload, config: Any) -> tuple[Tensor, float]:
    """The pictures (B, C, H, W) and the compute share under one of diffusers' cache configurations."""
    model = HookedDiT(workload.model)
    model.enable_cache(config)
    try:
        with model.cache_context("guided"):
            return model.sample(workload)
    finally:
        HookRegistry.check_if_exists_or_initialize(model).reset_stateful_hooks()  # frees what is cached


def first_block_cache(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    return sample_hooked(workload, FirstBlockCacheConfig(**settings))


def taylorseer(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    """The pictures and the compute share. Two of the settings are not diffusers':

    forecast: "halves": the outputs of attention and MLP of every block, before the gates, as in the paper;
        "last-block": the last block's output, which spares the others even the gates.
    whole_end: the number of steps at the end that are never forecast.
    """
    depth, steps = workload.model.config.depth, workload.protocol.steps
    config = {name: value for name, value in settings.items() if name not in ("forecast", "whole_end")}
    if settings["forecast"] == "halves":
        config["cache_identifiers"] = [r"transformer_blocks\.\d+\.(attn|mlp)"]
    else:
        config["cache_identifiers"] = [rf"transformer_blocks\.{depth - 1}"]
        config["skip_predict_identifiers"] = [rf"transformer_blocks\.{index}" for index in range(depth - 1)]
    return sample_hooked(
        workload,
        TaylorSeerCacheConfig(
            **config, taylor_factors_dtype=torch.float32, disable_cache_after_step=steps - settings["whole_end"]
        ),
    )


def magcache(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    config = MagCacheConfig(**settings, num_inference_steps=workload.protocol.steps, mag_ratios=mag_ratios(workload))
    return sample_hooked(workload, config)


_RATIOS: WeakKeyDictionary[DiT, dict[Protocol, list[float]]] = WeakKeyDictionary()


def mag_ratios(workload: Workload) -> list[float]:
    """The growth of the residual's magnitude at each step (steps,), by the library's own calibration on other noise.

    Measured once per model and protocol. The library only prints its result.
    """
    protocol = replace(workload.protocol, samples=CALIBRATION_SAMPLES, seed=CALIBRATION_SEED)
    known = _RATIOS.setdefault(workload.model, {})
    if protocol not in known:
        with redirect_stdout(io.StringIO()) as printed:
            sample_hooked(
                Workload(workload.model, protocol), MagCacheConfig(calibrate=True, num_inference_steps=protocol.steps)
            )
        (line,) = [line for line in printed.getvalue().splitlines() if line.startswith("[") and line.endswith("]")]
        known[protocol] = ast.literal_eval(line)
    return known[protocol]


PEERS: tuple[Peer, ...] = (
    Peer(
        name="first-block-cache",
        source="diffusers FirstBlockCache",
        run=first_block_cache,
        knob="threshold",
        knobs=(0.0, *(round(0.01 * 100 ** (i / 22), 4) for i in range(23))),
    ),
    Peer(
        name="taylorseer",
        source="arXiv 2503.06923, diffusers TaylorSeerCache",
        run=taylorseer,
        knob="cache_interval",
        knobs=tuple(range(1, 13)),
        variants=(
            {"forecast": "halves", "max_order": 2, "disable_cache_before_step": 3, "whole_end": 0},
            {"forecast": "last-block", "max_order": 2, "disable_cache_before_step": 2, "whole_end": 1},
            {"forecast": "last-block", "max_order": 1, "disable_cache_before_step": 2, "whole_end": 1},
        ),
    ),
    Peer(
        name="magcache",
        source="arXiv 2506.09045, diffusers MagCache",
        run=magcache,
        knob="threshold",
        knobs=(0.0, *(round(0.002 * 250 ** (i / 22), 5) for i in range(23))),
        variants=({"retention_ratio": 0.02, "max_skip_steps": 4},),
    ),
    Peer(  # its other bound, which is better than the threshold at equal speed
        name="magcache",
        source="arXiv 2506.09045, diffusers MagCache",
        run=magcache,
        knob="max_skip_steps",
        knobs=tuple(range(16)),
        variants=({"retention_ratio": 0.02, "threshold": 1.0},),
    ),
)
