"""PixArt alpha and sigma: self-attention among the image tokens, then cross-attention to the text."""

from __future__ import annotations

from torch import nn

from ...tokencache_core.blocks.spec import BlockSpec
from .family import Family

_BLOCK = BlockSpec(tokens="x")
_COMPRESSED = BlockSpec(
    tokens="x", whole_if=("x",)
)  # always given: keys and values pooled over the picture are of no single token


def _spec(block: nn.Module) -> BlockSpec:
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
