"""HunyuanVideo 1 and 1.5, and HunyuanImage 2.1, which is the same network for images: Flux's blocks.

Image-to-video by token replacement modulates the given frame's tokens separately (`modulation_dims`). For single blocks
the host does not add the number of text tokens to the bounds of the image tokens; but it applies them to the joint
stream all the same, so they are moved as bounds in the joint stream.
"""

from __future__ import annotations

from .family import Family, by_class
from .flux import BLOCK_LISTS, SPECS

FAMILIES = (
    Family(
        name="HunyuanVideo",
        model_class="comfy.ldm.hunyuan_video.model.HunyuanVideo",
        block_lists=BLOCK_LISTS,
        spec=by_class(SPECS),
    ),
)
