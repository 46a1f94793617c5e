"""PixArt alpha, of one block of the released width, which is the only one that the host detects, and sigma, narrow and
deeper.
"""

from __future__ import annotations

from comfy.ldm.pixart.pixartms import PixArtMS
from comfy.supported_models import PixArtSigma

from .tiny_model import TinyModel, from_config, from_state_dict, text

_ALPHA = dict(
    input_size=64,
    patch_size=2,
    in_channels=4,
    hidden_size=1152,
    depth=1,
    num_heads=16,
    caption_channels=4096,
    model_max_length=5,
    micro_condition=True,
    pe_interpolation=1,
)
_SIGMA = dict(
    image_model="pixart_sigma",
    input_size=64,
    patch_size=2,
    in_channels=4,
    hidden_size=96,
    depth=3,
    num_heads=4,
    caption_channels=24,
    model_max_length=11,
    micro_condition=False,
)
_LATENT = (4, 2, 64)  # the smallest that the position code can scale: it divides by zero at a mean side of 32


def pixart_alpha() -> TinyModel:
    model = from_state_dict(PixArtMS, std=0.03, **_ALPHA)
    return TinyModel("PixArt alpha", model, text(4096, 1, length=5), text(4096, 2, length=5), _LATENT, detected=True)


def pixart_sigma() -> TinyModel:
    return TinyModel("PixArt sigma", from_config(PixArtSigma(_SIGMA)), text(24, 1), text(24, 2), _LATENT)


TINY = {"PixArt alpha": pixart_alpha, "PixArt sigma": pixart_sigma}
