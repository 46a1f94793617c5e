"""Flux 1, with reference latents and with an attention mask, and Flux 2, with reference latents at time zero."""

from __future__ import annotations

import torch
from comfy.ldm.flux.model import Flux

from .tiny_model import TinyModel, from_state_dict, text

_FLUX1 = dict(
    guidance_embed=True,
    in_channels=16,
    out_channels=16,
    patch_size=2,
    vec_in_dim=32,
    context_in_dim=24,
    hidden_size=256,
    mlp_ratio=4.0,
    num_heads=2,
    depth=2,
    depth_single_blocks=2,
    axes_dim=[16, 56, 56],
    theta=10000,
    qkv_bias=True,
    txt_ids_dims=[],
)
_FLUX2 = dict(
    guidance_embed=True,
    in_channels=128,
    out_channels=128,
    patch_size=1,
    vec_in_dim=None,
    context_in_dim=24,
    hidden_size=128,
    mlp_ratio=3.0,
    num_heads=1,
    depth=1,
    depth_single_blocks=2,
    axes_dim=[32, 32, 32, 32],
    theta=2000,
    qkv_bias=False,
    txt_ids_dims=[3],
    global_modulation=True,
    mlp_silu_act=True,
    ops_bias=False,
)
_N_TEXT = 11


def flux1(name: str = "Flux 1", **conditioning: object) -> TinyModel:
    model = from_state_dict(Flux, std=0.06, **_FLUX1)
    positive, negative = (text(24, seed, _N_TEXT, guidance=3.5, **conditioning) for seed in (1, 2))
    return TinyModel(name, model, positive, negative, (16, 20, 14), detected=True)


def flux1_kontext() -> TinyModel:
    """Two reference images, of other sizes than the latent."""
    return flux1("Flux 1 Kontext", reference_latents=[_random(1, 16, 8, 12), _random(1, 16, 6, 6)])


def flux1_masked() -> TinyModel:
    """A mask made for another image size, which the host scales to this one's tokens: (1, text + image, text +
    image).
    """
    height, width = 4, 3
    n_tokens = _N_TEXT + height * width
    return flux1(
        "Flux 1, attention mask",
        attention_mask=_random(1, n_tokens, n_tokens),
        attention_mask_img_shape=(height, width),
    )


def flux2(name: str = "Flux 2", guidance_embed: bool = True, **conditioning: object) -> TinyModel:
    model = from_state_dict(Flux, std=0.1, **{**_FLUX2, "guidance_embed": guidance_embed})
    positive, negative = (text(24, seed, _N_TEXT, **conditioning) for seed in (1, 2))
    return TinyModel(name, model, positive, negative, (128, 8, 6), detected=True)


def flux2_timestep_zero() -> TinyModel:
    """Reference tokens are modulated for time zero. The host can do so only with global modulation and, in a batch,
    without guidance.
    """
    conditioning = dict(reference_latents=[_random(1, 128, 4, 5)], reference_latents_method="index_timestep_zero")
    return flux2("Flux 2, timestep zero", guidance_embed=False, **conditioning)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


TINY = {
    "Flux 1": flux1,
    "Flux 1 Kontext": flux1_kontext,
    "Flux 1, attention mask": flux1_masked,
    "Flux 2": flux2,
    "Flux 2, timestep zero": flux2_timestep_zero,
}
