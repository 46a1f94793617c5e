"""Kandinsky 5, video and image: self-attention among the visual tokens, then cross-attention to the text."""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class

_BLOCK = BlockSpec(tokens="visual_embed", per_token={"freqs": TokenArgument(dim=1)})  # (1, tokens, 1, d/2, 2, 2)

FAMILIES = (
    Family(
        name="Kandinsky 5",
        model_class="comfy.ldm.kandinsky5.model.Kandinsky5",
        block_lists=("visual_transformer_blocks",),
        spec=by_class({"TransformerDecoderBlock": _BLOCK}),
    ),
)
