"""The causal video VAE of Open-Sora-Plan 1.1 and 1.2 (`CausalVAEModel`): 8 times smaller in space, 4 times in time.

The first frame alone makes the first latent frame, and every 4 further frames one more. Convolutions over time see no
later frames: they begin with copies of the first one. Parameter names follow the release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate, pad, scaled_dot_product_attention, silu

from .tiles import DECODE_TILE, TIME, Tile, tiled_decode, tiled_encode


@dataclass(frozen=True)
class VAEConfig:
    """The shape of a causal video VAE.

    width: channels at full size, multiplied by `multipliers` at each level.
    at_once: whether one convolution halves or doubles time and space together, as in 1.2.
    """

    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    latent_channels: int = 4
    resnets: int = 2  # at each level of the encoder; the decoder has one more
    at_once: bool = False


def group_norm(channels: int, operations: Any, **factory: Any) -> nn.Module:
    return operations.GroupNorm(32, channels, eps=1e-6, **factory)


def by_frame(module: nn.Module, x: Tensor) -> Tensor:
    """A module for pictures, on each frame of x (B, C, T, H, W)."""
    frames = module(x.transpose(1, 2).flatten(0, 1))
    return frames.unflatten(0, (len(x), -1)).transpose(1, 2)


def after_first_frame(x: Tensor, copies: int) -> Tensor:
    """x (B, C, T, H, W) with `copies` of its first frame before it."""
    return torch.cat([x[:, :, :1].expand(-1, -1, copies, -1, -1), x], dim=2) if copies else x


class CausalConv3d(nn.Module):
    """A convolution over time and space; `kernel` (frames, height, width), padded by zeros in space if it has no
    `stride`.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: Sequence[int], operations: Any, *, stride: int = 1, **factory: Any
    ) -> None:
        super().__init__()
        self.frames = kernel[0]
        padding = (0, kernel[1] // 2, kernel[2] // 2) if stride == 1 else 0
        self.conv = operations.Conv3d(inputs, outputs, tuple(kernel), stride=stride, padding=padding, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(after_first_frame(x, self.frames - 1))


def conv3(inputs: int, outputs: int, operations: Any, **factory: Any) -> CausalConv3d:
    return CausalConv3d(inputs, outputs, (3, 3, 3), operations, **factory)


def conv1(inputs: int, outputs: int, operations: Any, **factory: Any) -> CausalConv3d:
    return CausalConv3d(inputs, outputs, (1, 1, 1), operations, **factory)


class Resnet(nn.Module):
    """Two convolutions with a short cut, on clips (B, C, T, H, W), or on pictures if not `causal`."""

    def __init__(self, inputs: int, outputs: int, causal: bool, operations: Any, **factory: Any) -> None:
        super().__init__()

        def conv(channels: int, side: int) -> nn.Module:
            if causal:
                return CausalConv3d(channels, outputs, (side, side, side), operations, **factory)
            return operations.Conv2d(channels, outputs, side, padding=side // 2, **factory)

        self.norm1 = group_norm(inputs, operations, **factory)
        self.conv1 = conv(inputs, 3)
        self.norm2 = group_norm(outputs, operations, **factory)
        self.conv2 = conv(outputs, 3)
        self.nin_shortcut = conv(inputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x), inplace=True))  # in place, for at full size each copy is what takes memory
        return self.nin_shortcut(x) + self.conv2(silu(self.norm2(h), inplace=True))


class FrameAttention(nn.Module):
    """Attention with one head among the places of each frame. norm: before it."""

    def __init__(self, channels: int, norm: nn.Module, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm = norm
        self.q, self.k, self.v, self.proj_out = (conv1(channels, channels, operations, **factory) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same."""
        normed = self.norm(x)
        q, k, v = (part(normed).permute(0, 2, 3, 4, 1).flatten(2, 3) for part in (self.q, self.k, self.v))
        attended = scaled_dot_product_attention(q, k, v)  # (B, T, H*W, C)
        return x + self.proj_out(attended.unflatten(2, x.shape[-2:]).permute(0, 4, 1, 2, 3))


class HalvedInSpace(nn.Module):
    """Every second place of a picture, padded at the right and the bottom."""

    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pad(x, (0, 1, 0, 1)))


class DoubledInSpace(nn.Module):
    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, (1, 3, 3), operations, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(by_frame(nn.Upsample(scale_factor=2.0, mode="nearest"), x))


class HalvedAtOnce(nn.Module):
    """Every second place and frame of a clip, padded at the right and the bottom."""

    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, (3, 3, 3), operations, stride=2, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pad(x, (0, 1, 0, 1)))


class DoubledAtOnce(nn.Module):
    """Twice the places, and of all frames but the first twice as many."""

    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.conv = conv3(channels, channels, operations, **factory)

    def forward(self, x: Tensor) -> Tensor:
        doubled = interpolate(x[:, :, :1], scale_factor=(1.0, 2.0, 2.0), mode="trilinear")
        if x.shape[2] > 1:
            following = interpolate(x[:, :, 1:], scale_factor=(2.0, 2.0, 2.0), mode="trilinear")
            doubled = torch.cat([doubled, following], dim=2)
        return self.conv(doubled)


class _Mixed(nn.Module):
    """A plain and a learned change of the number of frames, mixed by a learned share."""

    def __init__(self, **factory: Any) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.empty(1, **factory))

    def mixed(self, plain: Tensor, learned: Tensor) -> Tensor:
        return torch.lerp(learned, plain, self.mix_factor.to(plain).sigmoid())


class HalvedInTime(_Mixed):
    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__(**factory)
        self.conv = operations.Conv3d(channels, channels, 3, stride=(2, 1, 1), padding=(0, 1, 1), **factory)

    def forward(self, x: Tensor) -> Tensor:
        x = after_first_frame(x, 2)
        return self.mixed(avg_pool3d(x, (3, 1, 1), stride=(2, 1, 1)), self.conv(x))


class DoubledInTime(_Mixed):
    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__(**factory)
        self.conv = conv3(channels, channels, operations, **factory)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] > 1:
            following = interpolate(x[:, :, 1:], scale_factor=(2.0, 1.0, 1.0), mode="trilinear")
            x = torch.cat([x[:, :, :1], following], dim=2)
        return self.mixed(x, self.conv(x))


class Middle(nn.Module):
    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.block_1 = Resnet(channels, channels, True, operations, **factory)
        self.attn_1 = FrameAttention(channels, group_norm(channels, operations, **factory), operations, **factory)
        self.block_2 = Resnet(channels, channels, True, operations, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class EncoderLevel(nn.Module):
    """Resnets, by frame at the levels before time is halved; then space is halved, then time, or both `at_once`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resnets: int,
        *,
        causal: bool,
        halves_space: bool,
        halves_time: bool,
        at_once: bool,
        operations: Any,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.block = nn.ModuleList(
            Resnet(outputs if number else inputs, outputs, causal, operations, **factory) for number in range(resnets)
        )
        self.downsample = self.time_downsample = None
        if halves_time and at_once:
            self.downsample = HalvedAtOnce(outputs, operations, **factory)
        else:
            self.downsample = HalvedInSpace(outputs, operations, **factory) if halves_space else None
            self.time_downsample = HalvedInTime(outputs, operations, **factory) if halves_time else None

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.block:
            x = resnet(x) if self.causal else by_frame(resnet, x)
        if self.downsample is not None:
            x = by_frame(self.downsample, x) if isinstance(self.downsample, HalvedInSpace) else self.downsample(x)
        return x if self.time_downsample is None else self.time_downsample(x)


class DecoderLevel(nn.Module):
    """Resnets; then space is doubled, then time, or both `at_once`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resnets: int,
        *,
        doubles_space: bool,
        doubles_time: bool,
        at_once: bool,
        operations: Any,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            Resnet(outputs if number else inputs, outputs, True, operations, **factory) for number in range(resnets)
        )
        self.upsample = self.time_upsample = None
        if doubles_time and at_once:
            self.upsample = DoubledAtOnce(outputs, operations, **factory)
        else:
            self.upsample = DoubledInSpace(outputs, operations, **factory) if doubles_space else None
            self.time_upsample = DoubledInTime(outputs, operations, **factory) if doubles_time else None

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.block:
            x = resnet(x)
        if self.upsample is not None:
            x = self.upsample(x)
        return x if self.time_upsample is None else self.time_upsample(x)


class Encoder(nn.Module):
    def __init__(self, config: VAEConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in config.multipliers]
        last = len(widths) - 1
        self.conv_in = operations.Conv2d(3, config.width, 3, padding=1, **factory)
        self.down = nn.ModuleList(
            EncoderLevel(
                widths[max(level - 1, 0)] if level else config.width,
                width,
                config.resnets,
                causal=level > 1,
                halves_space=level < last,
                halves_time=level in (1, 2),
                at_once=config.at_once,
                operations=operations,
                **factory,
            )
            for level, width in enumerate(widths)
        )
        self.mid = Middle(widths[-1], operations, **factory)
        self.norm_out = group_norm(widths[-1], operations, **factory)
        self.conv_out = conv3(widths[-1], 2 * config.latent_channels, operations, **factory)

    def forward(self, x: Tensor) -> Tensor:
        x = by_frame(self.conv_in, x)
        for level in self.down:
            x = level(x)
        return self.conv_out(silu(self.norm_out(self.mid(x)), inplace=True))


class Decoder(nn.Module):
    def __init__(self, config: VAEConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in config.multipliers]
        last = len(widths) - 1
        self.conv_in = conv3(config.latent_channels, widths[-1], operations, **factory)
        self.mid = Middle(widths[-1], operations, **factory)
        self.up = nn.ModuleList(
            DecoderLevel(
                widths[min(level + 1, last)],
                width,
                config.resnets + 1,
                doubles_space=level > 0,
                doubles_time=level > 1,
                at_once=config.at_once,
                operations=operations,
                **factory,
            )
            for level, width in enumerate(widths)
        )
        self.norm_out = group_norm(config.width, operations, **factory)
        self.conv_out = conv3(config.width, 3, operations, **factory)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(silu(self.norm_out(x), inplace=True))


class VideoVAE(nn.Module):
    """Clips (B, 3, T, H, W) in [-1, 1] to unscaled latents (B, 4, (T - 1) / 4 + 1, H / 8, W / 8) and back.

    Clips larger than a tile (`tiles`) go through the networks tile by tile, which bounds the memory that is needed.
    """

    def __init__(
        self,
        config: VAEConfig = VAEConfig(),
        *,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.config = config
        self.encoder = Encoder(config, operations, **factory)
        self.quant_conv = conv1(2 * config.latent_channels, 2 * config.latent_channels, operations, **factory)
        self.post_quant_conv = conv1(config.latent_channels, config.latent_channels, operations, **factory)
        self.decoder = Decoder(config, operations, **factory)

    def encode(self, x: Tensor, tile: Tile = DECODE_TILE) -> Tensor:
        """The mean of the latents. Frames beyond a whole number of latent frames are left out."""
        frames = (x.shape[2] - 1) // TIME * TIME + 1
        return tiled_encode(self._encode_whole, x[:, :, :frames], tile)

    def decode(self, z: Tensor, tile: Tile = DECODE_TILE) -> Tensor:
        return tiled_decode(self._decode_whole, z, tile)

    def _encode_whole(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(x))[:, : self.config.latent_channels]

    def _decode_whole(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))
