"""The model families of ComfyUI that TokenCache knows: one file each, mostly with one spec per block class
(docs/adding-a-model.md).
"""

from __future__ import annotations

from torch import nn

from . import (
    auraflow,
    chroma,
    cosmos,
    dit,
    flux,
    hidream,
    hunyuan_dit,
    hunyuan_video,
    kandinsky5,
    ltxv,
    lumina,
    mochi,
    omnigen2,
    open_sora_plan,
    pixart,
    qwen_image,
    sd3,
    stable_audio,
    wan,
)
from .family import Family

_FILES = (
    auraflow,
    chroma,
    cosmos,
    dit,
    flux,
    hidream,
    hunyuan_dit,
    hunyuan_video,
    kandinsky5,
    ltxv,
    lumina,
    mochi,
    omnigen2,
    open_sora_plan,
    pixart,
    qwen_image,
    sd3,
    stable_audio,
    wan,
)
FAMILIES: tuple[Family, ...] = tuple(family for file in _FILES for family in file.FAMILIES)


def family_of(diffusion_model: nn.Module) -> Family | None:
    """The family of one of the host's networks; None if it is unknown, and so runs whole."""
    return next((family for family in FAMILIES if family.matches(diffusion_model)), None)


def known_family(diffusion_model: nn.Module, otherwise: str) -> Family:
    """The family of one of the host's networks; ValueError if it is unknown.

    otherwise: the end of the error's message: what cannot be done without a known family.
    """
    family = family_of(diffusion_model)
    if family is None:
        raise ValueError(f"TokenCache does not know {type(diffusion_model).__name__} yet: {otherwise}")
    return family
