"""Flux 1."""

from __future__ import annotations

from comfy.ldm.flux.model import Flux

from .tiny_model import TinyModel, from_state_dict, text

_FLUX = dict(
    guidance_embed=True, in_channels=16, out_channels=16, patch_size=2, vec_in_dim=32, context_in_dim=24, hidden_size=256, mlp_ratio=4.0,
    num_heads=2, depth=2, depth_single_blocks=2, axes_dim=[16, 56, 56], theta=10000, qkv_bias=True,
    txt_ids_dims=[],
)


def flux1() -> TinyModel:
    model = from_state_dict(Flux, std=0.06, **_FLUX)
    return TinyModel("Flux 1", model, text(24, 1, guidance=3.5), text(24, 2, guidance=3.5), (16, 20, 14), detected=True)


TINY = {"Flux 1": flux1}
