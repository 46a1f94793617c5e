"""HiDream-I1."""

from __future__ import annotations

import torch
from comfy.supported_models import HiDream

from .tiny_model import TinyModel, from_config, text

_CONFIG = dict(
    image_model="hidream",
    patch_size=2,
    in_channels=16,
    out_channels=16,
    num_layers=2,
    num_single_layers=2,
    attention_head_dim=16,
    num_attention_heads=4,
    caption_channels=[24, 20],
    text_emb_dim=32,
    num_routed_experts=4,
    num_activated_experts=2,
    axes_dims_rope=[4, 6, 6],
    max_resolution=[16, 16],
    llama_layers=[0, 1, 2, 2],
)


def hidream() -> TinyModel:
    return TinyModel("HiDream-I1", from_config(HiDream(_CONFIG)), _text(1), _text(2), (16, 20, 14))


def _text(seed: int) -> list:
    """T5's, and three layers of Llama's."""
    llama = torch.randn(1, 3, 7, 20, generator=torch.Generator().manual_seed(seed + 10))
    return text(24, seed, length=5, conditioning_llama3=llama)


TINY = {"HiDream-I1": hidream}
