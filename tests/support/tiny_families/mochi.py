"""Mochi."""

from __future__ import annotations

import torch
from comfy.supported_models import GenmoMochi

from .tiny_model import TinyModel, from_config, text

# The host's class wants a video MLP of 12288 whatever the width.
_CONFIG = dict(
    image_model="mochi_preview",
    patch_size=2,
    in_channels=12,
    hidden_size_x=64,
    hidden_size_y=32,
    depth=3,
    num_heads=4,
    mlp_ratio_x=192.0,
    mlp_ratio_y=2.0,
    use_t5=True,
    t5_feat_dim=24,
    t5_token_length=11,
    qk_norm=True,
    qkv_bias=False,
    out_bias=True,
    learn_sigma=False,
    timestep_scale=1000.0,
)


def mochi() -> TinyModel:
    mask = (torch.arange(11) < 8).long()[None]  # three tokens of padding
    model = from_config(GenmoMochi(_CONFIG))
    return TinyModel("Mochi", model, text(24, 1, attention_mask=mask), text(24, 2, attention_mask=mask), (12, 3, 8, 10))


TINY = {"Mochi": mochi}
