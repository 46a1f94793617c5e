"""Krea 2, with and without reference images."""

from __future__ import annotations

from typing import Any

import torch

from .tiny_model import TinyModel, from_config, host_config, text

_SHAPE = dict(
    image_model="krea2",
    features=64,
    tdim=32,
    txtdim=24,
    heads=4,
    kvheads=2,
    multiplier=2,
    layers=3,
    patch=2,
    channels=16,
    txtlayers=2,
    txtheads=2,
    txtkvheads=2,
)


def _krea2(name: str, **conditioning: Any) -> TinyModel:
    model = from_config(host_config("Krea2")(dict(_SHAPE)))
    return TinyModel(name, model, text(48, 1, **conditioning), text(48, 2, **conditioning), (16, 1, 18, 14))


def krea2() -> TinyModel:
    return _krea2("Krea 2")


def with_reference() -> TinyModel:
    """The reference image has a time of its own."""
    reference = torch.randn(1, 16, 10, 12, generator=torch.Generator().manual_seed(3))
    return _krea2(
        "Krea 2 with a reference", reference_latents=[reference], reference_latents_method="index_timestep_zero"
    )


TINY = {"Krea 2": krea2, "Krea 2 with a reference": with_reference}
