"""Ideogram 4, with and without padded texts."""

from __future__ import annotations

import torch

from .tiny_model import TinyModel, from_config, host_config, text

_SHAPE = dict(
    image_model="ideogram4",
    in_channels=128,
    num_layers=3,
    num_attention_heads=4,
    attention_head_dim=16,
    intermediate_size=96,
    adaln_dim=32,
    llm_features_dim=24,
    mrope_section=(4, 2, 2),
)


def _ideogram4(name: str, *lengths: int) -> TinyModel:
    """lengths: of the two texts; padded to 11 tokens."""
    config = type("TinyIdeogram4", (host_config("Ideogram4"),), {"unet_extra_config": {}})  # its own has released sizes
    positive, negative = (
        text(24, seed, attention_mask=(torch.arange(11) < length).long()[None]) for seed, length in enumerate(lengths)
    )
    return TinyModel(name, from_config(config(dict(_SHAPE))), positive, negative, (128, 9, 7))


TINY = {
    "Ideogram 4": lambda: _ideogram4("Ideogram 4", 11, 11),
    "Ideogram 4 with text mask": lambda: _ideogram4("Ideogram 4 with text mask", 8, 5),
}
