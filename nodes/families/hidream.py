"""HiDream-I1: double-stream blocks, then single-stream blocks, the image before the text.

Besides the text that goes through the network, every block is given text of its own (from a layer of the language
model), and the network drops that part of the stream after the block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...tokencache_core.blocks.spec import WHOLE, BlockSpec, TokenArgument
from .family import Family, n_patches, rest_is_text

_PER_TOKEN = {"rope": TokenArgument(dim=1, joint=True)}  # (rows, image + text, 1, d/2, 2, 2)
_WHOLE_IF = ("image_tokens_masks",)

SPECS = {
    "HiDreamImageTransformerBlock": BlockSpec(
        tokens="image_tokens",
        output=0,
        text="text_tokens",
        text_output=1,
        text_first=False,
        per_token=_PER_TOKEN,
        whole_if=_WHOLE_IF,
    ),
    "HiDreamImageSingleTransformerBlock": BlockSpec(
        tokens="image_tokens",
        text_length=rest_is_text("image_tokens"),
        text_first=False,
        per_token=_PER_TOKEN,
        whole_if=_WHOLE_IF,
    ),
}


def _spec(block: Any) -> BlockSpec:
    """The spec of the wrapped block: both lists hold the same wrapper around blocks of two classes."""
    return SPECS.get(type(block.block).__name__, WHOLE)


def _image_tokens(network: Any, latent: Tensor, conditioning: Mapping[str, Any]) -> int:
    """The patches of the latent (B, C, H, W) or, if there is a picture to edit, of both side by side."""
    edited = conditioning.get("image_cond")
    return n_patches(latent if edited is None else torch.cat([latent, edited], dim=-1), network.patch_size)


FAMILIES = (
    Family(
        name="HiDream-I1",
        model_class="comfy.ldm.hidream.model.HiDreamImageTransformer2DModel",
        block_lists=("double_stream_blocks", "single_stream_blocks"),
        spec=_spec,
        image_tokens=_image_tokens,
        block_by_block=True,
    ),
)
