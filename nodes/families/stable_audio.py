"""Stable Audio: one stream of audio tokens after prepended ones (memory, global conditioning), which count as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...tokencache_core.blocks.spec import WHOLE, BlockSpec, TokenArgument
from .family import Family, rest_is_text

TRANSFORMER_BLOCK = BlockSpec(
    tokens="x",
    text_length=rest_is_text("x"),
    per_token={
        "rotary_pos_emb": TokenArgument(dim=0, joint=True),  # (prepended + audio, d), and a scale
        "local_add_cond": TokenArgument(dim=1),  # (rows, audio, C)
        "mask": TokenArgument(dim=1, joint=True),  # (rows, prepended + audio)
    },
)


def spec(block: nn.Module) -> BlockSpec:
    """Blocks that convolve or average over the tokens run in full (older hosts have none that average)."""
    known = type(block).__name__ == "TransformerBlock"
    averages = known and getattr(block.self_attn, "feat_scale", False)
    return TRANSFORMER_BLOCK if known and block.conformer is None and not averages else WHOLE


def audio_tokens(network: Any, latent: Tensor, conditioning: Mapping[str, Any]) -> int:
    """The audio tokens of a latent (B, C, length)."""
    return latent.shape[-1] // network.patch_size


FAMILIES = (
    Family(
        name="Stable Audio",
        model_class="comfy.ldm.audio.dit.AudioDiffusionTransformer",
        block_lists=("transformer.layers",),
        spec=spec,
        image_tokens=audio_tokens,
    ),
)
