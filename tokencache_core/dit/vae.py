"""The VAE that decodes a DiT's latents, from the user's own files, without network access and without running code from
them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VAE_FILE, CONFIG = "diffusion_pytorch_model.safetensors", "config.json"  # in a folder as diffusers saves it
VAE_OF_DIT = {  # the configuration for a file without a folder: the VAE of Stable Diffusion 1 and 2
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "block_out_channels": [128, 256, 512, 512],
    "latent_channels": 4,
    "sample_size": 256,
    "scaling_factor": 0.18215,
}


class VAEError(ValueError):
    """A VAE cannot be used: one line that names its file and the remedy."""


def vae_weights(path: Path) -> Path:
    """The file with a VAE's weights. path: this file, or the VAE's folder as diffusers saves it."""
    file = path / VAE_FILE if path.is_dir() else path
    if not file.is_file() or file.suffix != ".safetensors":
        raise VAEError(
            f"{file}: there is no such .safetensors file; give an AutoencoderKL's folder (as diffusers saves it) or "
            "file"
        )
    return file


def vae_decoder(path: Path, channels: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function from latents (B, channels, H, W), as the DiT samples them, to pixels (B, 3, 8 H, 8 W), in float32.

    path: of the VAE (see `vae_weights`).
    channels: of the model's latents; VAEError if the VAE has others.
    device: to decode on.
    """
    file = vae_weights(path)
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    except ImportError:
        raise VAEError(
            f"{path}: decoding latents needs diffusers, which is not installed; pip install diffusers accelerate"
        ) from None
    try:
        vae: Any  # diffusers types what its loaders return too narrowly
        if file.name == VAE_FILE and (file.parent / CONFIG).is_file():  # this loader also knows old names of weights
            loaded: Any = AutoencoderKL.from_pretrained(
                file.parent, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
            vae, info = loaded
            if info["missing_keys"]:
                raise ValueError(f"it lacks {info['missing_keys'][0]}")
        else:
            with tempfile.TemporaryDirectory() as config:
                Path(config, CONFIG).write_text(json.dumps({"_class_name": "AutoencoderKL", **VAE_OF_DIT}))
                vae = AutoencoderKL.from_single_file(str(file), config=config, local_files_only=True)
        vae = vae.to(device).eval()  # fails for weights that a single file lacks: they have no values to move
    except Exception as error:  # the library raises many kinds of errors
        raise VAEError(
            f"{path}: it is not a complete AutoencoderKL ({(str(error).splitlines() or ['?'])[0][:100]})"
        ) from None
    if vae.config.latent_channels != channels:
        raise VAEError(
            f"{path}: it decodes {vae.config.latent_channels} channels, but the model samples {channels}; give the "
            "model's own VAE"
        )

    @torch.no_grad()
    def decode(latents: Tensor) -> Tensor:
        return vae.decode(latents / vae.config.scaling_factor).sample

    return decode
