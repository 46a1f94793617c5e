"""Hunyuan3D 2, whose latent is a sequence of tokens."""

from __future__ import annotations

from .tiny_model import TinyModel, from_config, host_config, text

_SHAPE = dict(
    image_model="hunyuan3d2",
    in_channels=64,
    context_in_dim=24,
    hidden_size=64,
    mlp_ratio=2.0,
    num_heads=4,
    depth=2,
    depth_single_blocks=2,
    qkv_bias=True,
    guidance_embed=True,
)


def hunyuan3d() -> TinyModel:
    model = from_config(host_config("Hunyuan3Dv2")(dict(_SHAPE)))
    return TinyModel("Hunyuan3D 2", model, text(24, 1, guidance=5.0), text(24, 2, guidance=5.0), (64, 61))


TINY = {"Hunyuan3D 2": hunyuan3d}
