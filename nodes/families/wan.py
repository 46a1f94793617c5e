"""Wan 2.1 and 2.2: self-attention among the video tokens, then cross-attention to the text (and to CLIP's view of an
image).

HuMo and the causal model, whose blocks look at audio or at earlier frames, are not among the families.
"""

from __future__ import annotations

from ...tokencache_core.blocks.spec import BlockSpec, TokenArgument
from .family import Family, by_class

_FREQS = {"freqs": TokenArgument(dim=1)}  # (1, tokens, 1, d/2, 2, 2)
_TIMED = BlockSpec(  # e (rows, 1 or frames, 6, D)
    tokens="x", per_token={**_FREQS, "e": TokenArgument(dim=1, frames=True)}
)
_ONE_TIME = BlockSpec(tokens="x", per_token=_FREQS)  # e (rows, 6, D) has no dimension of tokens

_MODEL = "comfy.ldm.wan.model."


def _wan(name: str, *classes: str, block: BlockSpec = _TIMED, between: bool = False) -> Family:
    """A family of Wan. between: whether the network adds something to the stream between its blocks."""
    return Family(
        name=name,
        model_class=classes,
        block_lists=("blocks",),
        spec=by_class({"WanAttentionBlock": block}),
        block_by_block=between,
    )


FAMILIES = (
    _wan("Wan", f"{_MODEL}WanModel", f"{_MODEL}SCAILWanModel", f"{_MODEL}SCAIL2WanModel"),
    _wan("Wan Camera", f"{_MODEL}CameraWanModel", block=_ONE_TIME),
    # The blocks of the control video's own stream are not cached: they also return what they add to the main stream.
    _wan("Wan VACE", f"{_MODEL}VaceWanModel", block=_ONE_TIME, between=True),
    _wan("Wan S2V", f"{_MODEL}WanModel_S2V", between=True),
    _wan("Wan Animate", "comfy.ldm.wan.model_animate.AnimateWanModel", between=True),
    _wan("Wan Dancer", "comfy.ldm.wan.model_wandancer.WanDancerModel", between=True),
)
