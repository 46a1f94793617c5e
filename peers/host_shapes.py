"""Models of released widths in the host, with a few blocks and random weights, to time steps: `bench --shape`.

Time per block-token does not depend on the depth, so a few blocks show what the whole model would take; only the share
of the parts outside blocks is larger here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tokencache_core.bench.shape import I_STEPS, STEPS, ShapeRow
from tokencache_core.engine.stopwatch import timed
from tokencache_core.settings import CONTEXTS, CacheSettings

from .host_cache import apply_on_host
from .host_models import PACK, import_host

SETTINGS = CacheSettings(cache_ratio=0.9, order=1, corrector=0.0)
VARIANTS = (SETTINGS, *(replace(SETTINGS, shares="uniform", context=context) for context in CONTEXTS))
FULL_STEPS = 2
OWN = ("VideoConfig", "SkipSparseConfig")  # configurations of this pack's networks


@dataclass(frozen=True)
class HostShape:
    """The shape of a model of the host.

    config: the name of the host's configuration class, or one of OWN.
    shape: the network's configuration, with a reduced depth.
    blocks: how many of the released model's blocks there are, for people.
    latent: (C, H, W) or (C, T, H, W).
    text: (tokens, width) of the conditioning.
    rows: per step; 1: without guidance.
    conditioning: further entries of the conditioning.
    """

    config: str
    shape: dict[str, Any]
    blocks: str
    latent: tuple[int, ...]
    text: tuple[int, int]
    rows: int
    conditioning: dict[str, Any]


SHAPES = {
    "Flux-512": HostShape(
        config="Flux",
        blocks="1 + 2 of 19 + 38",
        latent=(16, 64, 64),
        text=(256, 4096),
        rows=1,
        conditioning={"guidance": 3.5},
        shape=dict(
            image_model="flux",
            guidance_embed=True,
            in_channels=16,
            out_channels=16,
            patch_size=2,
            vec_in_dim=768,
            context_in_dim=4096,
            hidden_size=3072,
            mlp_ratio=4.0,
            num_heads=24,
            depth=1,
            depth_single_blocks=2,
            axes_dim=[16, 56, 56],
            theta=10000,
            qkv_bias=True,
            txt_ids_dims=[],
        ),
    ),
    "Wan-1.3B-480": HostShape(
        config="WAN21_T2V",
        blocks="3 of 30",
        latent=(16, 3, 40, 56),
        text=(512, 4096),
        rows=2,
        conditioning={},
        shape=dict(
            image_model="wan2.1",
            model_type="t2v",
            dim=1536,
            ffn_dim=8960,
            num_heads=12,
            num_layers=3,
            patch_size=(1, 2, 2),
            freq_dim=256,
            window_size=(-1, -1),
            qk_norm=True,
            cross_attn_norm=True,
            eps=1e-6,
            in_dim=16,
            out_dim=16,
            text_dim=4096,
        ),
    ),
    "Open-Sora-Plan-256": HostShape(  # 17 frames
        config="VideoConfig",
        blocks="2 of 28",
        latent=(4, 5, 32, 32),
        text=(40, 4096),
        rows=1,
        conditioning={},
        shape=dict(width=1152, depth=2, heads=16, sample_size=32, video_length=5),
    ),
    "Open-Sora-Plan-1.3-256": HostShape(  # 13 frames; two blocks of dense attention, one of each sparse kind
        config="SkipSparseConfig",
        blocks="4 of 32",
        latent=(8, 4, 32, 32),
        text=(40, 4096),
        rows=1,
        conditioning={},
        shape=dict(depth=4),
    ),
    "PixArt-512": HostShape(
        config="PixArtAlpha",
        blocks="4 of 28",
        latent=(4, 64, 64),
        text=(120, 4096),
        rows=2,
        conditioning={},
        shape=dict(
            image_model="pixart_alpha",
            input_size=64,
            patch_size=2,
            in_channels=4,
            hidden_size=1152,
            depth=4,
            num_heads=16,
            caption_channels=4096,
            model_max_length=120,
            micro_condition=False,
        ),
    ),
}


def host_model(shape: HostShape, dtype: torch.dtype, device: torch.device) -> Any:
    """A MODEL of the host with random weights, small enough that activations stay finite."""
    import_host(device)
    import comfy.model_patcher

    config = _configuration(shape)
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, device=device)
    random = torch.Generator(device=device).manual_seed(0)
    for weight in model.diffusion_model.parameters():
        # some families keep some weights in float32
        weight.data = torch.randn(weight.shape, generator=random, device=device).mul_(0.02).to(weight.dtype)
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=device, offload_device=device)


def _configuration(shape: HostShape) -> Any:
    import comfy.supported_models

    if shape.config in OWN:
        ours, sizes = (
            importlib.import_module(f"{PACK}.{name}")
            for name in ("nodes.host.open_sora_plan.video_model", "tokencache_core.open_sora_plan.config")
        )
        return ours.VideoModelConfig(getattr(sizes, shape.config)(**shape.shape))
    return getattr(comfy.supported_models, shape.config)(dict(shape.shape))


@torch.no_grad()
def sample(model: Any, shape: HostShape, steps: int) -> Tensor:
    import comfy.sample

    random = torch.Generator().manual_seed(1)
    noise = torch.randn((1, *shape.latent), generator=random)
    positive, negative = (
        [
            [
                torch.randn(1, *shape.text, generator=random),
                {"pooled_output": torch.randn(1, 768, generator=random), **shape.conditioning},
            ]
        ]
        for _ in range(2)
    )
    return comfy.sample.sample(
        model,
        noise,
        steps,
        1.0 if shape.rows == 1 else 3.0,
        "euler",
        "simple",
        positive,
        negative,
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=1,
    )


def measure(
    name: str, *, dtype: str, torch_dtype: torch.dtype, repeats: int, device: torch.device, on_run: Callable[[], object]
) -> list[ShapeRow]:
    """One row per variant. Full and short cached runs alternate, `repeats` times after a first warm-up round.

    name: in SHAPES.
    dtype, torch_dtype: the name of the weights' dtype, and the dtype.
    on_run: called after every run; `runs_per_shape` says how often.
    """
    shape = SHAPES[name]
    model = host_model(shape, torch_dtype, device)
    cached = {settings: apply_on_host(model, settings, I_STEPS) for settings in VARIANTS}
    full: list[float] = []
    steps: dict[CacheSettings, dict[str, list[float]]] = {settings: {"I": [], "P": []} for settings in VARIANTS}
    for repeat in range(repeats + 1):
        _, seconds = timed(lambda: sample(model, shape, FULL_STEPS))
        on_run()
        full += [seconds / FULL_STEPS] if repeat else []
        for settings, (patched, handle) in cached.items():
            sample(patched, shape, STEPS)
            on_run()
            for step in handle.latest().steps if repeat else ():
                steps[settings][step.kind].append(step.seconds)
    return [
        _row(
            f"{name}, {shape.blocks} blocks",
            dtype,
            shape.rows,
            settings,
            median(full),
            seen,
            cached[settings][1].latest().steps[-1].compute,
        )
        for settings, seen in steps.items()
    ]


def runs_per_shape(repeats: int) -> int:
    return (repeats + 1) * (1 + len(VARIANTS))


def _row(
    shape: str,
    dtype: str,
    rows: int,
    settings: CacheSettings,
    full: float,
    seen: dict[str, list[float]],
    compute: float,
) -> ShapeRow:
    chosen = {name: value for name, value in asdict(settings).items() if name != "seed"}
    i_step, p_step = median(seen["I"]), median(seen["P"])
    return ShapeRow(
        shape=shape,
        dtype=dtype,
        batch=rows,
        settings=chosen,
        full_seconds=full,
        i_step_seconds=i_step,
        p_step_seconds=p_step,
        compute=compute,
        overhead=p_step / (compute * i_step),
        overhead_to_full=p_step / (compute * full),
        predictor_seconds={},
    )
