"""Ideogram 4: one joint stream, text first, whose parts the blocks do not distinguish; without text, of image alone."""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class, n_patches, rest_is_text

_BLOCK = BlockSpec(
    tokens="x",
    text_length=rest_is_text("x"),
    per_token={
        "freqs_cis": TokenArgument(dim=1, joint=True),  # (1, text + image, 1, d/2, 2, 2)
        "attn_mask": TokenArgument(dim=(-2, -1), joint=True),  # (rows, 1, queries, keys)
    },
)

FAMILIES = (
    Family(
        name="Ideogram 4",
        model_class="comfy.ldm.ideogram4.model.Ideogram4Transformer2DModel",
        block_lists=("layers",),
        spec=by_class({"Ideogram4TransformerBlock": _BLOCK}),
        image_tokens=lambda network, latent, conditioning: n_patches(latent, 1),  # packed by the VAE
    ),
)
