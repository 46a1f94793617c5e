"""Krea 2: one joint stream, text first; reference images are further image tokens, with a time of their own or not."""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument, TokenBounds
from .family import Family, by_class

_BLOCK = BlockSpec(
    tokens="x",
    text_length=lambda arguments: arguments["transformer_options"]["img_slice"][0],
    per_token={"freqs": TokenArgument(dim=2, joint=True)},  # (rows, 1, text + image, d/2, 2, 2)
    bounds={"timestep_zero_index": TokenBounds(joint=True)},  # the first reference token
    whole_if=("mask",),  # the network never gives one
)

FAMILIES = (
    Family(
        name="Krea 2",
        model_class="comfy.ldm.krea2.model.SingleStreamDiT",
        block_lists=("blocks",),
        spec=by_class({"SingleStreamBlock": _BLOCK}),
    ),
)
