"""Hunyuan3D 2: the blocks of Flux on a latent that is a sequence of tokens, without positions.

Hunyuan3D 2.1, whose blocks choose experts and take the time as one more token, is not among them.
"""

from __future__ import annotations

from dataclasses import replace

from .family import Family, by_class, rest_is_text
from .flux import BLOCK_LISTS
from .flux import SPECS as FLUX

SPECS = {**FLUX, "SingleStreamBlock": replace(FLUX["SingleStreamBlock"], text_length=rest_is_text("x"))}

FAMILIES = (
    Family(
        name="Hunyuan3D 2",
        model_class="comfy.ldm.hunyuan3d.model.Hunyuan3Dv2",
        block_lists=BLOCK_LISTS,
        spec=by_class(SPECS),
        image_tokens=lambda network, latent, conditioning: latent.shape[-1],  # (B, C, tokens)
    ),
)
