"""Hunyuan-DiT: self-attention among the image tokens, cross-attention to the text, and long skips from early blocks to
late ones.
"""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class

SPECS = {
    "HunYuanDiTBlock": BlockSpec(
        tokens="x",
        per_token={
            "freq_cis_img": TokenArgument(dim=0),  # cos and sin, (N, d) each
            "skip": TokenArgument(dim=1),  # (rows, N, D), what an early block returned; None in early blocks
        },
    )
}

FAMILIES = (
    Family(
        name="Hunyuan-DiT",
        model_class="comfy.ldm.hydit.models.HunYuanDiT",
        block_lists=("blocks",),
        spec=by_class(SPECS),
        attention_module="comfy.ldm.hydit.attn_layers",
        block_by_block=True,  # the long skips read the stream between blocks
    ),
)
