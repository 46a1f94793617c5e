"""LTXV: self-attention among the video tokens, then cross-attention to the text. Of the audio-video model LTXAV
the output is forecast.
"""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class

_BLOCK = BlockSpec(
    tokens="x",
    per_token={
        "pe": TokenArgument(dim=1),  # (rotations (rows, tokens, heads, d/2, 2, 2), how they are split)
        "timestep": TokenArgument(dim=1),  # (rows, 1 or tokens, 6 or 9 times D)
    },
    in_place=True,
    whole_if=("self_attention_mask",),  # of guides: it refers to places in the whole sequence
)

FAMILIES = (
    Family(
        name="LTXV",
        model_class="comfy.ldm.lightricks.model.LTXVModel",
        block_lists=("transformer_blocks",),
        spec=by_class({"BasicTransformerBlock": _BLOCK}),
    ),
)
