"""The model families of ComfyUI that TokenCache knows: one file each, mostly with one spec per block class
(docs/adding-a-model.md).
"""

from __future__ import annotations

from torch import nn

from . import (
    auraflow,
    boogu,
    chroma,
    cogvideox,
    cosmos,
    dit,
    flux,
    hidream,
    hunyuan3d,
    hunyuan_dit,
    hunyuan_video,
    ideogram4,
    joyimage,
    kandinsky5,
    krea2,
    lens,
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
    boogu,
    chroma,
    cogvideox,
    cosmos,
    dit,
    flux,
    hidream,
    hunyuan3d,
    hunyuan_dit,
    hunyuan_video,
    ideogram4,
    joyimage,
    kandinsky5,
    krea2,
    lens,
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
    """The family of one of the host's networks; None if it is unknown, or none of its blocks is as the family has it:
    then its output is forecast.
    """
    family = next((family for family in FAMILIES if family.matches(diffusion_model)), None)
    return family if family is not None and family.fits(diffusion_model) else None


def known_family(diffusion_model: nn.Module, otherwise: str) -> Family:
    """The family of one of the host's networks; ValueError if it is unknown.

    otherwise: the end of the error's message: what cannot be done without a known family.
    """
    family = family_of(diffusion_model)
    if family is None:
        raise ValueError(f"TokenCache does not know {type(diffusion_model).__name__} yet: {otherwise}")
    return family
