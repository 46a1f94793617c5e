"""Stable Diffusion 3 and 3.5: text and image in two streams with joint attention; the last block drops the text."""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec
from .family import Family, by_class

SPECS = {"JointBlock": BlockSpec(tokens="x", output=1, text="context", text_output=0, positional=("context", "x"))}

FAMILIES = (
    Family(
        name="SD3",
        model_class="comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper",
        block_lists=("joint_blocks",),
        spec=by_class(SPECS),
    ),
)
