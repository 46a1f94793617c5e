"""Flux: double-stream blocks (image and text apart, joint attention), then single-stream blocks (one joint stream)."""

from __future__ import annotations

from torch import nn

from ...tokencache_core.block_spec import BlockSpec, TokenArgument
from .family import Family

_POSITIONS = {"pe": TokenArgument(dim=2, joint=True)}  # (rows, 1, text + image, d/2, 2, 2)

_SPECS = {
    "DoubleStreamBlock": BlockSpec(
        tokens="img", output=0, text="txt", text_output=1, text_length=lambda arguments: arguments["txt"].shape[1],
        per_token=_POSITIONS, in_place=True, whole_if=("attn_mask", "modulation_dims_img", "modulation_dims_txt"),
    ),
    "SingleStreamBlock": BlockSpec(
        tokens="x", text_length=lambda arguments: arguments["transformer_options"]["img_slice"][0],
        per_token=_POSITIONS, in_place=True, whole_if=("attn_mask", "modulation_dims"),
    ),
}


def _spec(block: nn.Module) -> BlockSpec:
    return _SPECS[type(block).__name__]


FLUX = Family(name="Flux", model_class="comfy.ldm.flux.model.Flux", block_lists=("double_blocks", "single_blocks"), spec=_spec)
