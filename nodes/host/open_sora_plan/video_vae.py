"""The causal video VAE as the host's VAE object, for VAE Encode, VAE Decode and their tiled forms; one of pixels."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from ....tokencache_core.open_sora_plan.vae import VAEConfig, VideoVAE
from ....tokencache_core.open_sora_plan.vae_file import read_video_vae
from ....tokencache_core.open_sora_plan.vae_tiles import DECODE_TILE, SPACE, TIME, Tile

PIXELS = "pixel_space"  # the name of the VAE that leaves pixels as they are
FEWER_FRAMES = 5  # of a tile, where the host has run out of memory and asks for tiles without saying of how many frames
# numbers held at most for each pixel and frame of a tile
_ENCODE_NUMBERS, _DECODE_NUMBERS = 700, 1600


class HostVideoVAE(VideoVAE):
    """The core's VAE as the host calls it in tiles of the user's choosing."""

    def decode_tiled(
        self,
        z: Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        tile_t: int | None = None,
        overlap_t: int | None = None,
    ) -> Tensor:
        """Sizes in latents; tiles are square. Of frames, tiles always share one."""
        return self.decode(z, chosen_tile(tile_x, tile_y, overlap, tile_t, 1, 1))

    def encode_tiled(
        self,
        x: Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        tile_t: int | None = None,
        overlap_t: int | None = None,
    ) -> Tensor:
        """Sizes in pixels and frames."""
        return self.encode(x, chosen_tile(tile_x, tile_y, overlap, tile_t, SPACE, TIME))


def chosen_tile(
    tile_x: int | None, tile_y: int | None, overlap: int | None, tile_t: int | None, space: int, time: int
) -> Tile:
    """A tile from the host's numbers, whose units are `space` and `time` per latent."""
    sides = [side // space for side in (tile_x, tile_y) if side is not None]
    side = max(2, min(sides)) if sides else DECODE_TILE.side
    shared = DECODE_TILE.overlap if overlap is None else overlap // space
    frames = FEWER_FRAMES if tile_t is None else max(2, tile_t // time)
    return Tile(side, min(shared, side // 2), frames)


class _Pixels(nn.Module):
    """Clips stay as they are."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z


def load_video_vae(path: str) -> Any:
    """The host's VAE object of a file in the release's layout."""
    tensors, config = read_video_vae(path)
    operations: Any = comfy.ops.disable_weight_init
    module = HostVideoVAE(config, operations=operations, device=torch.device("meta"))
    vae = _host_vae()
    module.load_state_dict({key: tensor.to(vae.vae_dtype) for key, tensor in tensors.items()}, assign=True)
    vae.upscale_ratio = (lambda frames: max(0, TIME * frames - TIME + 1), SPACE, SPACE)
    vae.downscale_ratio = (lambda frames: max(0, math.floor((frames + TIME - 1) / TIME)), SPACE, SPACE)
    vae.upscale_index_formula = vae.downscale_index_formula = (TIME, SPACE, SPACE)
    vae.latent_channels, vae.handles_tiling = config.latent_channels, True
    vae.memory_used_decode = lambda shape, dtype: decode_bytes(shape, dtype, config)
    vae.memory_used_encode = lambda shape, dtype: encode_bytes(shape, dtype, config)
    return _around(vae, module)


def pixel_vae() -> Any:
    """A VAE for models that sample pictures themselves: it makes clips of latents, unchanged."""
    vae = _host_vae()
    vae.upscale_ratio = vae.downscale_ratio = (lambda frames: frames, 1, 1)
    vae.upscale_index_formula = vae.downscale_index_formula = (1, 1, 1)
    return _around(vae, _Pixels())


def decode_bytes(shape: torch.Size, dtype: torch.dtype, config: VAEConfig) -> float:
    """What decoding latents (B, C, T, H, W) takes: one tile's share of it."""
    frames, height, width = (min(size, most) for size, most in zip(shape[-3:], _tile_sizes()))
    return _bytes((frames - 1) * TIME + 1, height * SPACE, width * SPACE, dtype, config, _DECODE_NUMBERS)


def encode_bytes(shape: torch.Size, dtype: torch.dtype, config: VAEConfig) -> float:
    """What encoding clips (B, C, T, H, W) takes: one tile's share of it."""
    most = (DECODE_TILE.frames * TIME, DECODE_TILE.side * SPACE, DECODE_TILE.side * SPACE)
    frames, height, width = (min(size, at_most) for size, at_most in zip(shape[-3:], most))
    return _bytes(frames, height, width, dtype, config, _ENCODE_NUMBERS)


def _tile_sizes() -> tuple[int, int, int]:
    return (DECODE_TILE.frames, DECODE_TILE.side, DECODE_TILE.side)


def _bytes(frames: int, height: int, width: int, dtype: torch.dtype, config: VAEConfig, numbers: int) -> float:
    share = config.width / VAEConfig.width
    return share * numbers * frames * height * width * comfy.model_management.dtype_size(dtype)


def _host_vae() -> Any:
    """A VAE object of the host's for clips of pictures, whose module is yet to come."""
    vae: Any = comfy.sd.VAE({"pixel_space_vae": torch.tensor(1.0)})  # its cheapest kind
    vae.latent_dim, vae.output_channels, vae.disable_offload, vae.size = 3, 3, False, None
    return vae


def _around(vae: Any, module: nn.Module) -> Any:
    """The VAE object with this module."""
    vae.first_stage_model = module.eval().requires_grad_(False)
    comfy.model_management.archive_model_dtypes(module)
    vae.patcher = comfy.model_patcher.CoreModelPatcher(
        module, load_device=vae.device, offload_device=comfy.model_management.vae_offload_device()
    )
    vae.model_size()
    return vae
