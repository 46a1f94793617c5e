"""Qwen-Image and Qwen-Image-Edit: double-stream blocks throughout; reference images are further image tokens.

Mage-Flow has the same blocks.
"""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument, TokenBounds
from .family import Family, by_class

SPECS = {
    "QwenImageTransformerBlock": BlockSpec(
        tokens="hidden_states",
        output=1,
        text="encoder_hidden_states",
        text_output=0,
        per_token={"image_rotary_emb": TokenArgument(dim=2, joint=True)},  # (rows, 1, text + image, d/2, 2, 2)
        bounds={"timestep_zero_index": TokenBounds()},  # the first reference token
    )
}


FAMILIES = (
    Family(
        name="Qwen-Image",
        model_class="comfy.ldm.qwen_image.model.QwenImageTransformer2DModel",
        block_lists=("transformer_blocks",),
        spec=by_class(SPECS),
    ),
    Family(
        name="Mage-Flow",
        model_class="comfy.ldm.mage_flow.model.MageFlowTransformer2DModel",
        block_lists=("transformer_blocks",),
        spec=by_class(SPECS),
    ),
)
