"""Boogu, with and without reference images."""

from __future__ import annotations

from typing import Any

import torch

from .tiny_model import TinyModel, from_config, host_config, text

_SHAPE = dict(
    image_model="boogu",
    patch_size=2,
    in_channels=16,
    hidden_size=64,
    num_layers=2,
    num_double_stream_layers=2,
    num_refiner_layers=1,
    num_attention_heads=4,
    num_kv_heads=2,
    multiple_of=8,
    axes_dim_rope=(4, 6, 6),
    axes_lens=(300, 64, 64),
    instruction_feat_dim=24,
)


def _boogu(name: str, **conditioning: Any) -> TinyModel:
    model = from_config(host_config("Boogu")(dict(_SHAPE)))
    conditioning["attention_mask"] = torch.ones(1, 11, dtype=torch.long)
    return TinyModel(name, model, text(24, 1, **conditioning), text(24, 2, **conditioning), (16, 18, 14))


def boogu() -> TinyModel:
    return _boogu("Boogu")


def with_reference() -> TinyModel:
    reference = torch.randn(1, 16, 10, 8, generator=torch.Generator().manual_seed(3))
    return _boogu("Boogu with a reference", reference_latents=[reference])


TINY = {"Boogu": boogu, "Boogu with a reference": with_reference}
