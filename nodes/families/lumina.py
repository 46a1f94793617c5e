"""Lumina 2 and Z-Image: one joint stream, text first, whose parts the blocks do not distinguish; the refiners before it
run in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument, TokenBounds
from .family import Family, by_class, n_patches, rest_is_text

SPECS = {
    "JointTransformerBlock": BlockSpec(
        tokens="x",
        text_length=rest_is_text("x"),
        per_token={
            "freqs_cis": TokenArgument(dim=1, joint=True),  # (1, text + image, 1, d/2, 2, 2)
            "x_mask": TokenArgument(dim=(-2, -1), joint=True),  # (..., queries or 1, keys)
        },
        bounds={"timestep_zero_index": TokenBounds(joint=True)},
    )
}


def image_tokens(network: Any, latent: Tensor, conditioning: Mapping[str, Any]) -> int:
    """The patches of the latent (B, C, H, W) and of reference images, each padded to a multiple (Z-Image)."""
    multiple = network.pad_tokens_multiple or 1
    patches = [n_patches(image, network.patch_size) for image in (*conditioning.get("ref_latents", ()), latent)]
    return sum(-(-n // multiple) * multiple for n in patches)


FAMILIES = (
    Family(
        name="Lumina 2",
        model_class=("comfy.ldm.lumina.model.NextDiT", "comfy.ldm.lumina.model.NextDiTPixelSpace"),
        block_lists=("layers",),
        spec=by_class(SPECS),
        image_tokens=image_tokens,
    ),
)
