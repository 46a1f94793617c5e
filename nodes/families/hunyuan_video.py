"""HunyuanVideo 1 and 1.5, and HunyuanImage 2.1, which is the same network on images: Flux's blocks.

Image-to-video by token replacement modulates the given frame's tokens apart from the others (`modulation_dims`). To
single blocks the host gives the bounds of image tokens without the number of text tokens before them; they are the
bounds of what it computes all the same, in the joint stream, and are moved as such.
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
