"""Boogu: double-stream blocks, which also attend among the image tokens alone, then the joint stream of OmniGen2."""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class
from .omnigen2 import SPECS as OMNIGEN2
from .omnigen2 import image_tokens

SPECS = {
    "BooguDoubleStreamBlock": BlockSpec(
        tokens="img_hidden_states",
        output=0,
        text="instruct_hidden_states",
        text_output=1,
        per_token={
            "joint_rotary_emb": TokenArgument(dim=1, joint=True),  # (rows, text + image, 1, d/2, 2, 2)
            "img_rotary_emb": TokenArgument(dim=1),  # (rows, image, 1, d/2, 2, 2)
        },
        whole_if=("joint_attention_mask", "img_attention_mask"),  # the network never gives one
    ),
    **OMNIGEN2,
}

FAMILIES = (
    Family(
        name="Boogu",
        model_class="comfy.ldm.boogu.model.BooguTransformer2DModel",
        block_lists=("double_stream_layers", "single_stream_layers"),
        spec=by_class(SPECS),
        image_tokens=image_tokens,
    ),
)
