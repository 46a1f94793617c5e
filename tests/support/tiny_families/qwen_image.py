"""Qwen-Image and Mage-Flow, with and without reference images.

The host detects Qwen-Image only at its released width.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy.supported_models import QwenImage

from .tiny_model import TinyModel, from_config, host_config, text

_SHAPE = dict(
    image_model="qwen_image",
    in_channels=64,
    out_channels=16,
    num_layers=3,
    attention_head_dim=16,
    num_attention_heads=4,
    joint_attention_dim=24,
    pooled_projection_dim=32,
    axes_dims_rope=(4, 6, 6),
)


def _qwen_image(
    name: str, positive: dict[str, Any] | None = None, negative: dict[str, Any] | None = None, **shape: Any
) -> TinyModel:
    model = from_config(QwenImage({**_SHAPE, **shape}))
    return TinyModel(name, model, text(24, 1, **(positive or {})), text(24, 2, **(negative or {})), (16, 1, 18, 14))


def qwen_image() -> TinyModel:
    return _qwen_image("Qwen-Image")


def with_text_mask() -> TinyModel:
    """The two texts are padded differently."""
    return _qwen_image("Qwen-Image with text mask", {"attention_mask": _mask(8)}, {"attention_mask": _mask(5)})


def _mask(length: int) -> torch.Tensor:
    return (torch.arange(11) < length).long()[None]


def edit() -> TinyModel:
    return _qwen_image("Qwen-Image-Edit", _reference(3), _reference(3))


def edit_timestep_zero() -> TinyModel:
    return _qwen_image(
        "Qwen-Image-Edit, timestep zero", _reference(3), _reference(3), default_ref_method="index_timestep_zero"
    )


def _reference(seed: int) -> dict[str, Any]:
    return {"reference_latents": [torch.randn(1, 16, 1, 10, 12, generator=torch.Generator().manual_seed(seed))]}


def mage_flow() -> TinyModel:
    shape = {**_SHAPE, "image_model": "mage_flow", "in_channels": 128, "out_channels": 128}
    del shape["pooled_projection_dim"]
    reference = {"reference_latents": [torch.randn(1, 128, 4, 5, generator=torch.Generator().manual_seed(3))]}
    model = from_config(host_config("MageFlow")(shape))
    return TinyModel("Mage-Flow", model, text(24, 1, **reference), text(24, 2, **reference), (128, 9, 7))


TINY = {
    "Qwen-Image": qwen_image,
    "Qwen-Image with text mask": with_text_mask,
    "Qwen-Image-Edit": edit,
    "Qwen-Image-Edit, timestep zero": edit_timestep_zero,
    "Mage-Flow": mage_flow,
}
