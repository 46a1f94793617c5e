"""OmniGen2: one joint stream of text, reference images and image, whose parts the blocks do not distinguish; the
refiners before it run in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class, n_patches, rest_is_text

SPECS = {
    "OmniGen2TransformerBlock": BlockSpec(
        tokens="hidden_states",
        text_length=rest_is_text("hidden_states"),
        per_token={
            "image_rotary_emb": TokenArgument(dim=1, joint=True),  # (rows, text + image, 1, d/2, 2, 2)
            "attention_mask": TokenArgument(dim=(-2, -1), joint=True),  # (..., queries or 1, keys)
        },
    )
}


def image_tokens(network: Any, latent: Tensor, conditioning: Mapping[str, Any]) -> int:
    """The patches of the latent (B, C, H, W) and of reference images."""
    return sum(n_patches(image, network.patch_size) for image in (*conditioning.get("ref_latents", ()), latent))


FAMILIES = (
    Family(
        name="OmniGen2",
        model_class="comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel",
        block_lists=("layers",),
        spec=by_class(SPECS),
        image_tokens=image_tokens,
    ),
)
