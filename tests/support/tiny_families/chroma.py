"""Chroma and Chroma Radiance. The host detects only models of the released width."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy import supported_models
from comfy.ldm.chroma_radiance.model import ChromaRadianceParams

from .tiny_model import TinyModel, from_config, text

_CHROMA = dict(
    context_in_dim=24,
    hidden_size=128,
    mlp_ratio=4.0,
    num_heads=2,
    depth=2,
    depth_single_blocks=2,
    axes_dim=[16, 24, 24],
    theta=10000,
    qkv_bias=True,
    in_dim=64,
    out_dim=128,
    hidden_dim=64,
    n_layers=2,
    txt_ids_dims=[],
    vec_in_dim=None,
)
_PIXELS = dict(
    nerf_hidden_size=16,
    nerf_mlp_ratio=2,
    nerf_depth=1,
    nerf_max_freqs=4,
    nerf_tile_size=512,
    nerf_final_head_type="conv",
    nerf_embedder_dtype=None,
    use_x0=True,
    use_sequential_txt_ids=True,
)


def chroma() -> TinyModel:
    config = supported_models.Chroma(
        {"image_model": "chroma", "in_channels": 64, "out_channels": 64, "patch_size": 2, **_CHROMA}
    )
    return _tiny("Chroma", config, (16, 20, 14))


def chroma_radiance() -> TinyModel:
    """8 x 8 pixels a token. Older hosts have fewer parameters."""
    known = {field.name for field in fields(ChromaRadianceParams)}
    pixels = {name: value for name, value in _PIXELS.items() if name in known}
    config = supported_models.ChromaRadiance(
        {"image_model": "chroma_radiance", "in_channels": 3, "out_channels": 3, "patch_size": 8, **_CHROMA, **pixels}
    )
    return _tiny("Chroma Radiance", config, (3, 80, 56))


def _tiny(name: str, config: Any, latent: tuple[int, ...]) -> TinyModel:
    return TinyModel(name, from_config(config, std=0.1), text(24, 1), text(24, 2), latent)


TINY = {"Chroma": chroma, "Chroma Radiance": chroma_radiance}
