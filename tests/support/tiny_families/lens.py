"""Lens."""

from __future__ import annotations

import torch

from .tiny_model import TinyModel, from_config, host_config, text

_SHAPE = dict(
    image_model="lens",
    num_layers=3,
    attention_head_dim=16,
    num_attention_heads=4,
    enc_hidden_dim=12,
    axes_dims_rope=(4, 6, 6),
    selected_layer_index=(0, 1),
)


def lens() -> TinyModel:
    """The two texts are padded differently."""
    model = from_config(host_config("Lens")(dict(_SHAPE)))
    positive, negative = (
        text(24, seed, attention_mask=(torch.arange(11) < length).long()[None]) for seed, length in ((1, 8), (2, 5))
    )
    return TinyModel("Lens", model, positive, negative, (128, 9, 7))


TINY = {"Lens": lens}
