"""Flux 1 and 2: double-stream blocks (image and text apart, joint attention), then single-stream blocks (one joint
stream).

Latents of reference images (Kontext) are ordinary tokens of the image stream, after the image's own.
"""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument, TokenBounds
from .family import Family, by_class

_PER_TOKEN = {
    "pe": TokenArgument(dim=2, joint=True),  # (rows, 1, text + image, d/2, 2, 2)
    "attn_mask": TokenArgument(dim=(-2, -1), joint=True),  # (..., queries or 1, keys)
}

SPECS = {
    "DoubleStreamBlock": BlockSpec(
        tokens="img",
        output=0,
        text="txt",
        text_output=1,
        per_token=_PER_TOKEN,
        bounds={"modulation_dims_img": TokenBounds()},
        in_place=True,
    ),
    "SingleStreamBlock": BlockSpec(
        tokens="x",
        text_length=lambda arguments: arguments["transformer_options"]["img_slice"][0],
        per_token=_PER_TOKEN,
        bounds={"modulation_dims": TokenBounds(joint=True)},
        in_place=True,
    ),
}
BLOCK_LISTS = ("double_blocks", "single_blocks")

FAMILIES = (
    Family(name="Flux", model_class="comfy.ldm.flux.model.Flux", block_lists=BLOCK_LISTS, spec=by_class(SPECS)),
)
