"""Mochi: video and text in two streams of different widths with joint attention, the video first; the last block does
not change the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class


def _attended_text(arguments: Mapping[str, Any]) -> int:
    """Only the first `crop_y` text tokens, which are not padding, take part in the attention."""
    return min(arguments["crop_y"], arguments["y"].shape[1])


_ROPE = TokenArgument(dim=0)  # (N, heads, d/2), of the video alone

SPECS = {
    "AsymmetricJointBlock": BlockSpec(
        tokens="x",
        output=0,
        text="y",
        text_output=1,
        text_length=_attended_text,
        text_first=False,
        per_token={"rope_cos": _ROPE, "rope_sin": _ROPE},
    )
}

FAMILIES = (
    Family(
        name="Mochi",
        model_class="comfy.ldm.genmo.joint_model.asymm_models_joint.AsymmDiTJoint",
        block_lists=("blocks",),
        spec=by_class(SPECS),
    ),
)
