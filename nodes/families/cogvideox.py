"""CogVideoX: two streams with one set of weights, text first in their joint attention."""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class

_BLOCK = BlockSpec(
    tokens="hidden_states",
    output=0,
    text="encoder_hidden_states",
    text_output=1,
    per_token={"image_rotary_emb": TokenArgument(dim=0)},  # (cosines, sines), each (tokens, d)
)

FAMILIES = (
    Family(
        name="CogVideoX",
        model_class="comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel",
        block_lists=("blocks",),
        spec=by_class({"CogVideoXBlock": _BLOCK}),
    ),
)
