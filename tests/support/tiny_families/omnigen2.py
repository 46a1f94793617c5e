"""OmniGen2, with and without reference images; the host detects it only at its released size."""

from __future__ import annotations

from typing import Any

import torch
from comfy.supported_models import Omnigen2

from .tiny_model import TinyModel, from_config, text

_SHAPE = dict(
    image_model="omnigen2",
    patch_size=2,
    in_channels=16,
    hidden_size=64,
    num_layers=3,
    num_refiner_layers=1,
    num_attention_heads=4,
    num_kv_heads=2,
    multiple_of=8,
    axes_dim_rope=(4, 6, 6),
    axes_lens=(300, 64, 64),
    text_feat_dim=24,
    timestep_scale=1000.0,
)


def _omnigen2(name: str, **conditioning: Any) -> TinyModel:
    conditioning["attention_mask"] = torch.ones(1, 11, dtype=torch.long)
    return TinyModel(
        name, from_config(Omnigen2(_SHAPE)), text(24, 1, **conditioning), text(24, 2, **conditioning), (16, 18, 14)
    )


def omnigen2() -> TinyModel:
    return _omnigen2("OmniGen2")


def with_references() -> TinyModel:
    random = torch.Generator().manual_seed(3)
    references = [torch.randn(1, 16, *size, generator=random) for size in ((10, 8), (6, 12))]
    return _omnigen2("OmniGen2 with references", reference_latents=references)


TINY = {"OmniGen2": omnigen2, "OmniGen2 with references": with_references}
