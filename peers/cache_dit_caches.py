"""DBCache and DBCache with TaylorSeer's forecast, as cache-dit implements them, on a wrapper of our DiT."""

from __future__ import annotations

import os

os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "error")  # read on import; else it would report every run

import cache_dit
from cache_dit import BlockAdapter, DBCacheConfig, ForwardPattern, TaylorSeerCalibratorConfig
from torch import Tensor

from tokencache_core.bench.workload import Workload

from .peer import Peer, Settings
from .wrapped_dit import WrappedDiT


def sample_adapted(
    workload: Workload, settings: Settings, calibrator: TaylorSeerCalibratorConfig | None = None
) -> tuple[Tensor, float]:
    """Pictures (B, C, H, W) and the compute share.

    Both conditionings of guidance are in one batch, so they have no separate caches.

    settings: of DBCacheConfig.
    calibrator: forecasts, if given.
    """
    model = WrappedDiT(workload.model)
    adapter = BlockAdapter(
        transformer=model,
        blocks=model.transformer_blocks,
        forward_pattern=ForwardPattern.Pattern_3,
        check_forward_pattern=False,
    )
    config = DBCacheConfig(
        num_inference_steps=workload.protocol.steps, Bn_compute_blocks=0, enable_separate_cfg=False
    ).update(**settings)
    assert isinstance(config, DBCacheConfig)
    adapter = cache_dit.enable_cache(adapter, cache_config=config, calibrator_config=calibrator)
    try:
        return model.sample(workload)
    finally:
        cache_dit.disable_cache(adapter)  # because it also marks a class of its own as cached


def dbcache(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    return sample_adapted(workload, settings)


def dbcache_taylor(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    order = settings["taylorseer_order"]
    cache = {name: value for name, value in settings.items() if name != "taylorseer_order"}
    return sample_adapted(workload, cache, TaylorSeerCalibratorConfig(taylorseer_order=order))


# from 1 on, the difference would not be computed
THRESHOLDS = (0.0, *(round(0.01 * 100 ** (i / 22), 4) for i in range(22)), 0.99)
MOST_CACHED = tuple(range(24))  # steps in a row: its other bound, which is better than the threshold at equal speed
PLAIN, TAYLOR = "cache-dit DBCache", "cache-dit DBCache with TaylorSeer"
PEERS: tuple[Peer, ...] = (
    Peer(
        name="dbcache",
        source=PLAIN,
        run=dbcache,
        knob="residual_diff_threshold",
        knobs=THRESHOLDS,
        variants=({"Fn_compute_blocks": 1, "max_warmup_steps": 1},),
    ),
    Peer(
        name="dbcache",
        source=PLAIN,
        run=dbcache,
        knob="max_continuous_cached_steps",
        knobs=MOST_CACHED,
        variants=({"Fn_compute_blocks": 1, "max_warmup_steps": 1, "residual_diff_threshold": 0.99},),
    ),
    Peer(
        name="dbcache-taylor",
        source=TAYLOR,
        run=dbcache_taylor,
        knob="residual_diff_threshold",
        knobs=THRESHOLDS,
        variants=({"Fn_compute_blocks": 1, "max_warmup_steps": 4, "taylorseer_order": 2},),
    ),
    Peer(
        name="dbcache-taylor",
        source=TAYLOR,
        run=dbcache_taylor,
        knob="max_continuous_cached_steps",
        knobs=MOST_CACHED,
        variants=(
            {"Fn_compute_blocks": 1, "max_warmup_steps": 4, "residual_diff_threshold": 0.99, "taylorseer_order": 2},
        ),
    ),
)
