"""Cosmos Predict2, and Anima, which is based on it: tokens in a grid (rows, T, H, W, D), with a time embedding for each
frame.

Cosmos 1, whose grid comes as (T, H, W, rows, D), is not among them.
"""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class

_BLOCK = BlockSpec(
    tokens="x_B_T_H_W_D",
    grid=True,
    per_token={
        "rope_emb_L_1_1_D": TokenArgument(dim=1),  # (1, tokens, 1, d/2, 2, 2)
        "emb_B_T_D": TokenArgument(dim=1, frames=True),  # (rows, 1 or frames, D); a chosen token becomes its own frame
        "adaln_lora_B_T_3D": TokenArgument(dim=1, frames=True),
    },
    whole_if=("extra_per_block_pos_emb",),  # (rows, T, H, W, D); no released model has it
)


def _cosmos(name: str, model_class: str) -> Family:
    return Family(name=name, model_class=model_class, block_lists=("blocks",), spec=by_class({"Block": _BLOCK}))


FAMILIES = (
    _cosmos("Cosmos Predict2", "comfy.ldm.cosmos.predict2.MiniTrainDIT"),
    _cosmos("Anima", "comfy.ldm.anima.model.Anima"),
)
