"""AuraFlow: double blocks (image and text in two streams, joint attention), then single blocks (one joint stream).
Register tokens count as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...tokencache_core.blocks.spec import BlockSpec
from .family import Family, by_class, n_patches, rest_is_text

SPECS = {
    "MMDiTBlock": BlockSpec(tokens="x", output=1, text="c", text_output=0),
    "DiTBlock": BlockSpec(tokens="cx", text_length=rest_is_text("cx")),
}


def _image_tokens(network: Any, latent: Tensor, conditioning: Mapping[str, Any]) -> int:
    return n_patches(latent, network.patch_size)


FAMILIES = (
    Family(
        name="AuraFlow",
        model_class="comfy.ldm.aura.mmdit.MMDiT",
        block_lists=("double_layers", "single_layers"),
        spec=by_class(SPECS),
        image_tokens=_image_tokens,
    ),
)
