"""Lumina 2 and Z-Image, also in pixels; the host detects them only at their released widths."""

from __future__ import annotations

from typing import Any

import torch
from comfy.supported_models import Lumina2, ZImage, ZImagePixelSpace

from .tiny_model import TinyModel, from_config, text

_SHAPE = dict(
    image_model="lumina2",
    patch_size=2,
    in_channels=16,
    dim=64,
    n_layers=3,
    n_refiner_layers=1,
    n_heads=4,
    n_kv_heads=2,
    multiple_of=8,
    ffn_dim_multiplier=2.0,
    qk_norm=True,
    cap_feat_dim=24,
    axes_dims=[4, 6, 6],
    axes_lens=[300, 64, 64],
)
_Z_IMAGE = {
    **_SHAPE,
    "dim": 256,
    "n_kv_heads": 4,
    "axes_dims": [16, 24, 24],
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
    "ffn_dim_multiplier": 0.5,
}


def lumina2() -> TinyModel:
    return TinyModel("Lumina 2", from_config(Lumina2(_SHAPE)), text(24, 1), text(24, 2), (16, 18, 13))


def z_image() -> TinyModel:
    return TinyModel("Z-Image", from_config(ZImage(_Z_IMAGE)), text(24, 1), text(24, 2), (16, 10, 14))


def z_image_omni() -> TinyModel:
    """With a reference image, which the blocks modulate as if at timestep zero."""
    reference = _reference(3)
    model = from_config(ZImage({**_Z_IMAGE, "n_layers": 2}))
    return TinyModel("Z-Image Omni", model, text(24, 1, **reference), text(24, 2, **reference), (16, 10, 12))


def z_image_pixels() -> TinyModel:
    shape = {**_Z_IMAGE, "image_model": "zimage_pixel", "in_channels": 3, "patch_size": 4, "n_layers": 2}
    decoder = {
        "decoder_in_channels": 48,
        "decoder_hidden_size": 16,
        "decoder_num_res_blocks": 1,
        "decoder_max_freqs": 2,
    }
    return TinyModel(
        "Z-Image, pixels", from_config(ZImagePixelSpace({**shape, **decoder})), text(24, 1), text(24, 2), (3, 24, 20)
    )


def _reference(seed: int) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed)
    return {
        "reference_latents": [torch.randn(1, 16, 10, 8, generator=random)],
        "reference_latents_text_embeds": [torch.randn(1, 7, 24, generator=random)],
    }


TINY = {"Lumina 2": lumina2, "Z-Image": z_image, "Z-Image Omni": z_image_omni, "Z-Image, pixels": z_image_pixels}
