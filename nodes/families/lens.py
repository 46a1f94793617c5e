"""Lens: double-stream blocks, image first in their joint attention."""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class

_BLOCK = BlockSpec(
    tokens="hidden_states",
    output=1,
    text="encoder_hidden_states",
    text_output=0,
    text_first=False,
    per_token={
        "freqs_cis": TokenArgument(dim=2, joint=True),  # (1, 1, image + text, d/2, 2, 2)
        "attention_mask": TokenArgument(dim=-1, joint=True),  # (rows, 1, 1, image + text)
    },
)

FAMILIES = (
    Family(
        name="Lens",
        model_class="comfy.ldm.lens.model.LensTransformer2DModel",
        block_lists=("transformer_blocks",),
        spec=by_class({"LensTransformerBlock": _BLOCK}),
    ),
)
