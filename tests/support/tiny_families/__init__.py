"""Tiny models with random weights of every family that the pack knows, as the host itself makes MODELs of their files.

Each module has TINY: by the name in the compatibility matrix, a function that makes the `TinyModel`.
"""

from __future__ import annotations

from collections.abc import Callable

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
from .tiny_model import TinyModel

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
TINY: dict[str, Callable[[], TinyModel]] = {name: make for file in _FILES for name, make in file.TINY.items()}
