"""Files of the video VAEs: reads and checks them, and infers their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...files.strict_json import shown
from ..other_models import other_vae
from ..released_files import VideoFileError, check_tensors, read_released
from .causal_vae import VAEConfig, VideoVAE
from .wavelet_vae import WaveletVAE, WaveletVAEConfig

AT_ONCE = "encoder.down.1.downsample.conv.conv.weight"  # only in a VAE of 1.2
_OF_TRAINING = "loss."  # the discriminator and the perceptual loss
_CONSTANTS = re.compile(r"(encoder|decoder)\.(inverse_)?wavelet_")
_KEYS_OF_WAVELETS = {
    "width": "encoder.down1.0.weight",
    "latent_channels": "encoder.conv_out.conv.weight",
    "encoder_flow": "encoder.connect_l1.weight",
    "decoder_flow": "decoder.connect_l1.0.norm1.norm.weight",
}


def read_video_vae(path: str | Path) -> tuple[dict[str, Tensor], VAEConfig | WaveletVAEConfig]:
    """The tensors of a VAE of 1.1, 1.2 or 1.3 as stored, and its shape. path: as `read_released` takes it."""
    try:
        released = read_released(path)
        tensors = {
            key: tensor
            for key, tensor in released.tensors.items()
            if not key.startswith(_OF_TRAINING) and not _CONSTANTS.match(key)
        }
        if (other := other_vae(tensors)) is not None:
            raise ValueError(
                f"this is {other}; Load Open-Sora-Plan VAE reads the VAEs of Open-Sora-Plan 1.1, 1.2 and 1.3"
            )
        if _KEYS_OF_WAVELETS["width"] in tensors:
            config = infer_wavelet_config(tensors, released.config)
            expected, what = WaveletVAE(config, device="meta").state_dict(), "a VAE of Open-Sora-Plan 1.3"
        else:
            config = infer_vae_config(tensors)
            version = "1.2" if config.at_once else "1.1"
            expected, what = VideoVAE(config, device="meta").state_dict(), f"a VAE of Open-Sora-Plan {version}"
        check_tensors(tensors, expected, what)
    except ValueError as error:
        raise VideoFileError(f"{path}: {error}") from None
    return tensors, config


def infer_vae_config(tensors: Mapping[str, Tensor]) -> VAEConfig:
    """The shape of a VAE of the release's four levels."""
    width = len(tensors["encoder.conv_in.weight"])
    levels = [f"encoder.down.{level}.block.0.norm2.weight" for level in range(4)]
    missing = [key for key in (*levels, "post_quant_conv.conv.weight") if key not in tensors]
    if missing or width % 32:
        raise ValueError(f"it is not the whole of a VAE of Open-Sora-Plan 1.1: {missing or width} is wrong or missing")
    multipliers = tuple(len(tensors[key]) // width for key in levels)
    latent_channels = len(tensors["post_quant_conv.conv.weight"])
    return VAEConfig(width, multipliers, latent_channels, at_once=AT_ONCE in tensors)


def infer_wavelet_config(tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> WaveletVAEConfig:
    """The shape of a WF-VAE. said: by the config.json beside it."""
    missing = [key for key in _KEYS_OF_WAVELETS.values() if key not in tensors]
    if missing:
        raise ValueError(f"it is not the whole of a VAE of Open-Sora-Plan 1.3: {missing} missing")
    if said.get("t_interpolation", "trilinear") != "trilinear":
        raise ValueError(
            f"its t_interpolation is {shown(said['t_interpolation'])}, but only WF-VAEs with 'trilinear', as of "
            "Open-Sora-Plan 1.3, are known"
        )
    sizes = {name: len(tensors[key]) for name, key in _KEYS_OF_WAVELETS.items()}
    return WaveletVAEConfig(
        sizes["width"],
        sizes["latent_channels"] // 2,
        _resnets(tensors, "encoder.down1"),
        sizes["encoder_flow"],
        sizes["decoder_flow"],
        _resnets(tensors, "decoder.connect_l1"),
    )


def _resnets(tensors: Mapping[str, Tensor], layers: str) -> int:
    return sum(re.fullmatch(rf"{re.escape(layers)}\.\d+\.norm1\.norm\.weight", key) is not None for key in tensors)
