"""PixArt alpha and sigma: self-attention among the image tokens, then cross-attention to the text."""

from __future__ import annotations

from typing import Any

from ...tokencache_core.blocks.spec import BlockSpec
from .family import Family

_BLOCK = BlockSpec(tokens="x")
# always in full ("x" is always given), since keys and values that are pooled over the picture belong to no one token
_COMPRESSED = BlockSpec(tokens="x", whole_if=("x",))


def _spec(block: Any) -> BlockSpec:
    return _COMPRESSED if block.attn.sr_ratio > 1 else _BLOCK


FAMILIES = (
    Family(
        name="PixArt",
        model_class="comfy.ldm.pixart.pixartms.PixArtMS",
        block_lists=("blocks",),
        spec=_spec,
        attention_module="comfy.ldm.pixart.blocks",
    ),
)
