"""Files of the causal video VAE: reads and checks them, and infers its shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .other_models import other_vae
from .released_files import VideoFileError, check_tensors, read_released
from .vae import VAEConfig, VideoVAE

_OF_TRAINING = "loss."  # the discriminator and the perceptual loss


def read_video_vae(path: str | Path) -> tuple[dict[str, Tensor], VAEConfig]:
    """The tensors of a VAE as stored, and its shape. path: as `read_released` takes it."""
    try:
        released = read_released(path)
        tensors = {key: tensor for key, tensor in released.tensors.items() if not key.startswith(_OF_TRAINING)}
        if (other := other_vae(tensors)) is not None:
            raise ValueError(f"this is {other}; Load Open-Sora-Plan VAE reads the VAE of Open-Sora-Plan 1.1")
        config = infer_vae_config(tensors)
        check_tensors(tensors, VideoVAE(config, device="meta").state_dict(), "a VAE of Open-Sora-Plan 1.1")
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
    return VAEConfig(width, multipliers, len(tensors["post_quant_conv.conv.weight"]))
