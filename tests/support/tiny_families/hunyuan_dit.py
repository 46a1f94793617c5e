"""Hunyuan-DiT."""

from __future__ import annotations

import torch
from comfy.supported_models import HunyuanDiT
from torch import Tensor

from .tiny_model import TinyModel, from_config, text

_CONFIG = dict(
    image_model="hydit",
    depth=4,
    hidden_size=64,
    num_heads=4,
    text_states_dim=24,
    text_states_dim_t5=32,
    text_len=7,
    text_len_t5=9,
)


def hunyuan_dit() -> TinyModel:
    return TinyModel("HunyuanDiT", from_config(HunyuanDiT(_CONFIG)), _text(1), _text(2), (4, 20, 14))


def _text(seed: int) -> list:
    """Of two text encoders, the second's padded."""
    t5 = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(seed + 10))
    return text(24, seed, length=7, attention_mask=_mask(7, 7), conditioning_mt5xl=t5, attention_mask_mt5xl=_mask(6, 9))


def _mask(used: int, length: int) -> Tensor:
    return (torch.arange(length) < used).long()[None]


TINY = {"HunyuanDiT": hunyuan_dit}
