"""Chroma, and Chroma Radiance that denoises pixels: Flux's blocks, modulated from outside."""

from __future__ import annotations

from .family import Family, by_class
from .flux import BLOCK_LISTS, SPECS

_SPEC = by_class(SPECS)

FAMILIES = (
    Family(name="Chroma", model_class="comfy.ldm.chroma.model.Chroma", block_lists=BLOCK_LISTS, spec=_SPEC),
    Family(
        name="Chroma Radiance",
        model_class="comfy.ldm.chroma_radiance.model.ChromaRadiance",
        block_lists=BLOCK_LISTS,
        spec=_SPEC,
    ),
)
