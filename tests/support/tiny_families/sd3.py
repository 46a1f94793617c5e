"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper

from .tiny_model import TinyModel, from_state_dict, text

_SHAPE = dict(
    patch_size=2,
    in_channels=16,
    depth=3,
    input_size=None,
    num_patches=16 * 16,
    pos_embed_max_size=16,
    adm_in_channels=32,
    context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 24, "out_features": 192}},
)


def _tiny(name: str, **shape: Any) -> TinyModel:
    # a buffer, left to the file
    positions = {"pos_embed": torch.randn(1, 16 * 16, 192, generator=torch.Generator().manual_seed(3))}
    model = from_state_dict(OpenAISignatureMMDITWrapper, std=0.07, others=positions, **_SHAPE, **shape)
    return TinyModel(name, model, text(24, 1), text(24, 2), (16, 20, 14), detected=True)


def sd3() -> TinyModel:
    return _tiny("SD3")


def sd35() -> TinyModel:
    """As its medium size: the first blocks have a second attention, among the image tokens alone."""
    return _tiny("SD3.5", qk_norm="rms", x_block_self_attn_layers=[0, 1])


TINY = {"SD3": sd3, "SD3.5": sd35}
