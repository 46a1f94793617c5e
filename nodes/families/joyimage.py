"""JoyImage: double-stream blocks, image first in their joint attention; reference images are further image tokens."""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class

_BLOCK = BlockSpec(
    tokens="hidden_states",
    output=0,
    text="encoder_hidden_states",
    text_output=1,
    text_first=False,
    per_token={"image_rotary_emb": TokenArgument(dim=1)},  # (1, image, 1, d/2, 2, 2)
)

FAMILIES = (
    Family(
        name="JoyImage",
        model_class="comfy.ldm.joyimage.model.JoyImageTransformer3DModel",
        block_lists=("double_blocks",),
        spec=by_class({"JoyImageTransformerBlock": _BLOCK}),
    ),
)
