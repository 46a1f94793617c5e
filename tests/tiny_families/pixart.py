"""PixArt alpha."""

from __future__ import annotations

from comfy.ldm.pixart.pixartms import PixArtMS

from .tiny_model import TinyModel, from_state_dict, text

_SHAPE = dict(
    input_size=64, patch_size=2, in_channels=4, hidden_size=1152, depth=3, num_heads=16, caption_channels=4096, model_max_length=11,
    micro_condition=True, pe_interpolation=1,
)


def pixart_alpha() -> TinyModel:
    model = from_state_dict(PixArtMS, std=0.03, **_SHAPE)
    return TinyModel("PixArt alpha", model, text(4096, 1), text(4096, 2), (4, 34, 38), detected=True)


TINY = {"PixArt alpha": pixart_alpha}
