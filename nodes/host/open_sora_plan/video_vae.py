"""The video VAEs as the host's VAE object, for VAE Encode, VAE Decode and their tiled forms; one of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from ....tokencache_core.open_sora_plan.vae.causal_vae import VAEConfig, VideoVAE
from ....tokencache_core.open_sora_plan.vae.file import read_video_vae
from ....tokencache_core.open_sora_plan.vae.tiles import DECODE_TILE, SPACE, TIME, Tile
from ....tokencache_core.open_sora_plan.vae.wavelet_vae import WAVELET_TILE, WaveletVAE, WaveletVAEConfig

PIXELS = "pixel_space"  # the name of the VAE that leaves pixels as they are
FEWER_FRAMES = 5  # of a tile, where the host has run out of memory and asks for tiles without saying of how many frames
# numbers held at most for each pixel and frame of a tile
_ENCODE_NUMBERS, _DECODE_NUMBERS = 700, 1600
_WAVELET_ENCODE_NUMBERS, _WAVELET_DECODE_NUMBERS = 400, 1600


class _TiledByTheHost:
    """The host's calling convention for tiles that the user chooses, to be mixed in before one of the core's VAEs."""

    decode: Callable[[Tensor, Tile], Tensor]
    encode: Callable[[Tensor, Tile], Tensor]
    tile: ClassVar[Tile]  # of its own choosing

    def _chosen(self, tile: Tile) -> Tile:
        return tile

    def decode_tiled(
        self,
        z: Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        tile_t: int | None = None,
        overlap_t: int | None = None,
    ) -> Tensor:
        """Decode in tiles. Sizes are in latents; tiles are square, and always share one frame."""
        return self.decode(z, self._chosen(chosen_tile(tile_x, tile_y, overlap, tile_t, 1, 1)))

    def encode_tiled(
        self,
        x: Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        tile_t: int | None = None,
        overlap_t: int | None = None,
    ) -> Tensor:
        """Encode in tiles. Sizes are in pixels and frames."""
        return self.encode(x, self._chosen(chosen_tile(tile_x, tile_y, overlap, tile_t, SPACE, TIME)))


class HostVideoVAE(_TiledByTheHost, VideoVAE):
    tile = DECODE_TILE


class HostWaveletVAE(_TiledByTheHost, WaveletVAE):
    """Its tiles are always of few frames, which makes no difference to the result."""

    tile = WAVELET_TILE

    def _chosen(self, tile: Tile) -> Tile:
        return replace(tile, frames=WAVELET_TILE.frames)


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
    """The VAE that leaves clips as they are."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z


def load_video_vae(path: str) -> Any:
    """The host's VAE object of a file in the release's layout."""
    tensors, config = read_video_vae(path)
    operations: Any = comfy.ops.disable_weight_init
    kind = HostVideoVAE if isinstance(config, VAEConfig) else HostWaveletVAE
    module: Any = kind(config, operations=operations, device=torch.device("meta"))  # pyright: ignore[reportArgumentType]
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


AnyConfig = VAEConfig | WaveletVAEConfig


def decode_bytes(shape: torch.Size, dtype: torch.dtype, config: AnyConfig) -> float:
    """The memory that decoding latents (B, C, T, H, W) takes, in bytes: that of one tile."""
    tile, numbers = _tile(config), _DECODE_NUMBERS if isinstance(config, VAEConfig) else _WAVELET_DECODE_NUMBERS
    frames, height, width = (min(size, most) for size, most in zip(shape[-3:], (tile.frames, tile.side, tile.side)))
    return _bytes((frames - 1) * TIME + 1, height * SPACE, width * SPACE, dtype, config, numbers)


def encode_bytes(shape: torch.Size, dtype: torch.dtype, config: AnyConfig) -> float:
    """The memory that encoding clips (B, C, T, H, W) takes, in bytes: that of one tile."""
    tile, numbers = _tile(config), _ENCODE_NUMBERS if isinstance(config, VAEConfig) else _WAVELET_ENCODE_NUMBERS
    most = (tile.frames * TIME, tile.side * SPACE, tile.side * SPACE)
    frames, height, width = (min(size, at_most) for size, at_most in zip(shape[-3:], most))
    return _bytes(frames, height, width, dtype, config, numbers)


def _tile(config: AnyConfig) -> Tile:
    return DECODE_TILE if isinstance(config, VAEConfig) else WAVELET_TILE


def _bytes(frames: int, height: int, width: int, dtype: torch.dtype, config: AnyConfig, numbers: int) -> float:
    share = config.width / type(config).width
    return share * numbers * frames * height * width * comfy.model_management.dtype_size(dtype)


def _host_vae() -> Any:
    """One of the host's VAE objects, for clips of pictures, without its module (see `_around`)."""
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
