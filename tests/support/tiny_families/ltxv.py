"""LTXV: text to video, and a given first frame, by which every token has a time of its own."""

from __future__ import annotations

from typing import Any

import torch
from comfy.ldm.lightricks.model import LTXVModel

from .tiny_model import TinyModel, from_state_dict, text

_SHAPE = dict(cross_attention_dim=256, attention_head_dim=8, num_layers=3)
_LATENT = (128, 3, 5, 4)


def _ltxv(name: str, **more: Any) -> TinyModel:
    model = from_state_dict(LTXVModel, std=0.06, **_SHAPE)
    mask = torch.tensor([[1] * 8 + [0] * 3])
    positive, negative = (text(4096, seed, attention_mask=mask) for seed in (1, 2))
    return TinyModel(name, model, positive, negative, _LATENT, detected=True, **more)


def first_frame() -> TinyModel:
    """As LTXVImgToVideo masks the noise."""
    return _ltxv("LTXV I2V", noise_mask=torch.tensor([0.1, 0.6, 1.0]).view(1, 1, 3, 1, 1))


TINY = {"LTXV": lambda: _ltxv("LTXV"), "LTXV I2V": first_frame}
