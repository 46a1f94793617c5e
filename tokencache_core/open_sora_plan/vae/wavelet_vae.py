"""WF-VAE, the wavelet video VAE of Open-Sora-Plan 1.3 (Li et al. 2024, arXiv 2411.17459): 8 times smaller in space, 4
times in time.

Beside the main path, the low bands of wavelets of the clip go straight to deeper layers of the encoder, and are made
again by the decoder. The first frame alone makes the first latent frame, and every 4 further frames one more.
Parameter names follow the release.

Clips pass through in pieces of a few frames. What a layer needs of the frames before is kept in a `Passage`, so that
pieces together give what the whole clip would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, silu

from .causal_vae import FrameAttention, HalvedInSpace, after_first_frame, by_frame
from .tiles import TIME, Tile, in_space
from .wavelets import clip_bands, clip_of_bands, picture_bands, picture_of_bands

BANDS, COLOURS = 8, 3
WAVELET_TILE = Tile(frames=2)


@dataclass(frozen=True)
class WaveletVAEConfig:
    """The shape of a WF-VAE.

    width: channels of the main path at half the size.
    encoder_flow, decoder_flow: channels of the path of low bands.
    """

    width: int = 128
    latent_channels: int = 8
    resnets: int = 2
    encoder_flow: int = 64
    decoder_flow: int = 128
    flow_resnets: int = 2  # of the decoder


class Passage:
    """What the layers keep while a clip passes through them piece by piece.

    last: whether the present piece is the last one.
    """

    def __init__(self) -> None:
        self.last = False
        self._kept: dict[nn.Module, Tensor] = {}

    def begins(self, layer: nn.Module) -> bool:
        return layer not in self._kept

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Keep frames (B, C, T, H, W) until the next piece; a copy, so that the piece itself can be freed."""
        self._kept[layer] = frames.clone()

    def kept(self, layer: nn.Module) -> Tensor:
        return self._kept[layer]


class ChannelNorm(nn.Module):
    """Normalises the channels of every place."""

    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm = operations.LayerNorm(channels, eps=1e-6, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class PassingConv3d(nn.Module):
    """A convolution over time and space that sees no later frames. stride: 1, or 2 in time and space."""

    def __init__(
        self, inputs: int, outputs: int, side: int, operations: Any, *, stride: int = 1, **factory: Any
    ) -> None:
        super().__init__()
        self.frames, self.stride = side, stride
        padding = (0, side // 2, side // 2) if stride == 1 else 0
        self.conv = operations.Conv3d(inputs, outputs, side, stride=stride, padding=padding, **factory)

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        if self.frames == 1:
            return self.conv(x)
        first = passage.begins(self)
        x = after_first_frame(x, self.frames - 1) if first else torch.cat([passage.kept(self), x], dim=2)
        passage.keep(self, x[:, :, 1 - self.frames :] if self.stride == 1 else x[:, :, -1:])
        if self.stride > 1:
            x = pad(x, (0, 1, 0, 1))
        return self.conv(x)


class PassingResnet(nn.Module):
    """Two convolutions with a short cut."""

    def __init__(self, inputs: int, outputs: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(inputs, operations, **factory)
        self.conv1 = PassingConv3d(inputs, outputs, 3, operations, **factory)
        self.norm2 = ChannelNorm(outputs, operations, **factory)
        self.conv2 = PassingConv3d(outputs, outputs, 3, operations, **factory)
        self.nin_shortcut = PassingConv3d(inputs, outputs, 1, operations, **factory) if inputs != outputs else None

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        h = self.conv1(silu(self.norm1(x)), passage)
        h = self.conv2(silu(self.norm2(h)), passage)
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x, passage))


class PictureResnet(nn.Module):
    """Two convolutions with a short cut, on pictures, without a change of channels."""

    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm1, self.norm2 = (ChannelNorm(channels, operations, **factory) for _ in range(2))
        self.conv1, self.conv2 = (operations.Conv2d(channels, channels, 3, padding=1, **factory) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))


class HalvedInTimeAndSpace(nn.Module):
    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.conv = PassingConv3d(channels, channels, 3, operations, stride=2, **factory)

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        return self.conv(x, passage)


class DoubledInTimeAndSpace(nn.Module):
    """Interpolates linearly, but the first frame stays one. Since a frame is mixed with the next one, the last frame of
    a piece waits for the next piece.
    """

    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.conv = PassingConv3d(channels, channels, 3, operations, **factory)

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        """(B, C, T, H, W) -> (B, C, frames that are ready, 2 H, 2 W), which may be none."""
        parts = []
        if passage.begins(self):
            parts.append(x[:, :, :1])
            before, x = x[:, :, :0], x[:, :, 1:]
        else:
            before = passage.kept(self)  # a frame that is done, if any, and one that waits, if any
            x = torch.cat([before, x], dim=2)
            before = x[:, :, : max(before.shape[2] - 1, 0)]
        if x.shape[2]:
            doubled = interpolate(x, scale_factor=(2.0, 1.0, 1.0), mode="trilinear")
            ready = doubled.shape[2] - (0 if passage.last else 2)
            parts.append(doubled[:, :, 2 * before.shape[2] : ready])
        passage.keep(self, x[:, :, -2:])
        out = torch.cat(parts, dim=2)
        if not out.shape[2]:
            return out
        return self.conv(interpolate(out, scale_factor=(1.0, 2.0, 2.0), mode="trilinear"), passage)


class DoubledInSpace(nn.Module):
    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))


class Layers(nn.ModuleList):
    """Layers one after the other, of which those of pictures get frame by frame."""

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        for layer in self:
            if isinstance(layer, PassingConv3d | PassingResnet | HalvedInTimeAndSpace | DoubledInTimeAndSpace):
                x = layer(x, passage)
            elif isinstance(layer, FrameAttention):
                x = layer(x)
            else:
                x = by_frame(layer, x)
        return x


class _Haar(nn.Module):
    """Wavelets of a passing clip, whose first frame stands for two."""

    def bands(self, x: Tensor, passage: Passage) -> Tensor:
        first = passage.begins(self)
        passage.keep(self, x[:, :, :0])
        return clip_bands(after_first_frame(x, 1) if first else x)

    def clip(self, bands: Tensor, passage: Passage) -> Tensor:
        first = passage.begins(self)
        passage.keep(self, bands[:, :, :0])
        return clip_of_bands(bands)[:, :, 1 if first else 0 :]


class WaveletEncoder(nn.Module):
    def __init__(self, config: WaveletVAEConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        width, flow, count = config.width, config.encoder_flow, config.resnets

        def conv(inputs: int, outputs: int) -> nn.Module:
            return operations.Conv2d(inputs, outputs, 3, padding=1, **factory)

        self.down1 = Layers(
            [
                conv(BANDS * COLOURS, width),
                *(PictureResnet(width, operations, **factory) for _ in range(count)),
                HalvedInSpace(width, operations, **factory),
            ]
        )
        self.down2 = Layers(
            [
                conv(width + flow, 2 * width),
                *(PassingResnet(2 * width, 2 * width, operations, **factory) for _ in range(count)),
                HalvedInTimeAndSpace(2 * width, operations, **factory),
            ]
        )
        self.connect_l1, self.connect_l2 = conv(4 * COLOURS, flow), conv(BANDS * COLOURS, flow)
        self.mid = Layers(
            [
                PassingResnet(2 * width + flow, 4 * width, operations, **factory),
                frame_attention(4 * width, operations, **factory),
                PassingResnet(4 * width, 4 * width, operations, **factory),
            ]
        )
        self.norm_out = ChannelNorm(4 * width, operations, **factory)
        self.conv_out = PassingConv3d(4 * width, 2 * config.latent_channels, 3, operations, **factory)
        self.haar, self.haar_of_low = _Haar(), _Haar()

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        """(B, 3, T, H, W) -> (B, 2 C, ...): mean and log-variance."""
        bands = self.haar.bands(x, passage)
        low = picture_bands(bands[:, :COLOURS])
        h = torch.cat([self.down1(bands, passage), by_frame(self.connect_l1, low)], dim=1)
        lower = self.haar_of_low.bands(low[:, :COLOURS], passage)
        h = torch.cat([self.down2(h, passage), by_frame(self.connect_l2, lower)], dim=1)
        return self.conv_out(silu(self.norm_out(self.mid(h, passage))), passage)


class WaveletDecoder(nn.Module):
    def __init__(self, config: WaveletVAEConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        width, count = config.width, config.resnets
        self.flow = flow = config.decoder_flow

        def resnet(inputs: int, outputs: int) -> nn.Module:
            return PassingResnet(inputs, outputs, operations, **factory)

        def conv(inputs: int, outputs: int) -> nn.Module:
            return operations.Conv2d(inputs, outputs, 3, padding=1, **factory)

        self.conv_in = PassingConv3d(config.latent_channels, 4 * width, 3, operations, **factory)
        self.mid = Layers(
            [
                resnet(4 * width, 4 * width),
                frame_attention(4 * width, operations, **factory),
                resnet(4 * width, 4 * width + flow),
            ]
        )
        self.up2 = Layers(
            [
                *(resnet(4 * width, 4 * width) for _ in range(count)),
                DoubledInTimeAndSpace(4 * width, operations, **factory),
                resnet(4 * width, 4 * width + flow),
            ]
        )
        self.up1 = Layers(
            [
                *(resnet((2 if number else 4) * width, 2 * width) for number in range(count)),
                DoubledInSpace(2 * width, operations, **factory),
                resnet(2 * width, 2 * width),
            ]
        )
        self.layer = Layers([resnet(2 * width, width), resnet(width, width)])
        self.connect_l1, self.connect_l2 = (
            Layers([*(resnet(flow, flow) for _ in range(config.flow_resnets)), conv(flow, bands * COLOURS)])
            for bands in (4, BANDS)
        )
        self.norm_out = ChannelNorm(width, operations, **factory)
        self.conv_out = conv(width, BANDS * COLOURS)
        self.haar, self.haar_of_low = _Haar(), _Haar()

    def forward(self, z: Tensor, passage: Passage) -> Tensor:
        """(B, C, T, H, W) -> (B, 3, frames that are ready, 8 H, 8 W), which may be none."""
        h, of_low = self._split(self.mid(self.conv_in(z, passage), passage))
        lower = self.haar_of_low.clip(self.connect_l2(of_low, passage), passage)
        if not passage.begins(self):
            lower = torch.cat([passage.kept(self), lower], dim=2)
        for layer in self.up2[:-1]:
            h = layer(h, passage)
        ready = h.shape[2]
        passage.keep(self, lower[:, :, ready:])  # it waits as `h` does
        if not ready:
            return z.new_zeros((len(z), COLOURS, 0, 8 * z.shape[3], 8 * z.shape[4]))
        h, of_low = self._split(self.up2[-1](h, passage))
        low = _plus(self.connect_l1(of_low, passage), lower[:, :, :ready])
        h = silu(self.norm_out(self.layer(self.up1(h, passage), passage)))
        return self.haar.clip(_plus(by_frame(self.conv_out, h), picture_of_bands(low)), passage)

    def _split(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The main path, and that of low bands."""
        return h[:, : -self.flow], h[:, -self.flow :]


def frame_attention(channels: int, operations: Any, **factory: Any) -> FrameAttention:
    return FrameAttention(channels, ChannelNorm(channels, operations, **factory), operations, **factory)


def _plus(bands: Tensor, low: Tensor) -> Tensor:
    """The bands, with more in the lowest one."""
    return torch.cat([bands[:, :COLOURS] + low, bands[:, COLOURS:]], dim=1)


class WaveletVAE(nn.Module):
    """Clips (B, 3, T, H, W) in [-1, 1] to unscaled latents (B, C, (T - 1) / 4 + 1, H / 8, W / 8) and back.

    Clips pass in pieces of a few frames, without a difference to the result, and, where they are larger than a tile, in
    tiles that overlap, which bounds the memory that is needed.
    """

    def __init__(
        self,
        config: WaveletVAEConfig = WaveletVAEConfig(),
        *,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.config = config
        self.encoder = WaveletEncoder(config, operations, **factory)
        self.decoder = WaveletDecoder(config, operations, **factory)

    def encode(self, x: Tensor, tile: Tile = WAVELET_TILE) -> Tensor:
        """The mean of the latents. Frames beyond a whole number of latent frames are left out."""
        frames = (x.shape[2] - 1) // TIME * TIME + 1

        def encode(part: Tensor) -> Tensor:
            return passed(self.encoder, part, TIME * tile.frames)[:, : self.config.latent_channels]

        return in_space(encode, x[:, :, :frames], tile, encoding=True)

    def decode(self, z: Tensor, tile: Tile = WAVELET_TILE) -> Tensor:
        return in_space(lambda part: passed(self.decoder, part, tile.frames), z, tile, encoding=False)


def passed(layers: Callable[[Tensor, Passage], Tensor], x: Tensor, frames: int) -> Tensor:
    """The output of layers for a clip x (B, C, T, H, W) that passes in pieces: its first frame, then `frames` each."""
    passage, parts = Passage(), []
    for start, end in _pieces(x.shape[2], frames):
        passage.last = end == x.shape[2]
        parts.append(layers(x[:, :, start:end], passage))
    return torch.cat(parts, dim=2)


def _pieces(length: int, frames: int) -> Iterator[tuple[int, int]]:
    yield 0, 1
    for start in range(1, length, frames):
        yield start, min(start + frames, length)
