"""JoyImage, with and without a reference image."""

from __future__ import annotations

from typing import Any

import torch

from .tiny_model import TinyModel, from_config, host_config, text

_SHAPE = dict(
    image_model="joyimage", hidden_size=64, num_attention_heads=4, text_dim=24, num_layers=3, rope_dim_list=[4, 6, 6]
)


def _joyimage(name: str, **conditioning: Any) -> TinyModel:
    config = host_config("JoyImage")
    config = type("TinyJoyImage", (config,), {"unet_extra_config": {"theta": 10000}})  # its own has the released rope
    model = from_config(config(dict(_SHAPE)))
    return TinyModel(name, model, text(24, 1, **conditioning), text(24, 2, **conditioning), (16, 1, 18, 14))


def joyimage() -> TinyModel:
    return _joyimage("JoyImage")


def with_reference() -> TinyModel:
    reference = torch.randn(1, 16, 1, 10, 12, generator=torch.Generator().manual_seed(3))
    return _joyimage("JoyImage with a reference", reference_latents=[reference])


TINY = {"JoyImage": joyimage, "JoyImage with a reference": with_reference}
