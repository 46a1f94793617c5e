"""Runs a causal video VAE tile by tile, in space and in time, so that its memory does not grow with the clip.

In space, tiles overlap and are blended linearly. In time, a tile begins with the last latent frame of the one before;
the output for that frame is dropped, because at the beginning of a tile it stands for a single frame. Group norms take
their statistics over a tile, so the result is close to that of the whole clip, but not equal; the release decodes in
tiles, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SPACE, TIME = 8, 4  # pixels per latent, and frames per latent frame after the first


@dataclass(frozen=True)
class Tile:
    """The size of a tile in latents. side: its height and width. overlap: of neighbours in space. frames: in time."""

    side: int = 32
    overlap: int = 8
    frames: int = 17

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.overlap <= self.side or self.side < 1 or self.frames < 2:
            raise ValueError(
                f"tiles of {self.side} latents cannot overlap by {self.overlap}, or have {self.frames} frames: choose "
                "an overlap of at most half a tile, and at least 2 frames"
            )


DECODE_TILE = Tile()


def tiled_decode(decode: Callable[[Tensor], Tensor], z: Tensor, tile: Tile) -> Tensor:
    """Clips (B, C, 4 (T - 1) + 1, 8 H, 8 W) from latents z (B, C', T, H, W). decode: decodes one tile."""
    parts = []
    for start, end in spans_of_frames(z.shape[2], tile.frames):
        part = in_space(decode, z[:, :, start:end], tile, encoding=False)
        parts.append(part[:, :, 1:] if start else part)
    return torch.cat(parts, dim=2)


def tiled_encode(encode: Callable[[Tensor], Tensor], x: Tensor, tile: Tile) -> Tensor:
    """Latents (B, C', T, H, W) of clips x (B, C, 4 (T - 1) + 1, 8 H, 8 W). encode: encodes one tile."""
    parts = []
    for start, end in spans_of_frames((x.shape[2] - 1) // TIME + 1, tile.frames):
        frames = x[:, :, TIME * start : TIME * (end - 1) + 1]
        part = in_space(encode, frames, tile, encoding=True)
        parts.append(part[:, :, 1:] if start else part)
    return torch.cat(parts, dim=2)


def spans_of_frames(frames: int, longest: int) -> list[tuple[int, int]]:
    """Spans of at most `longest` of the latent frames, each of which begins with the last frame of the one before."""
    starts = range(0, max(frames - 1, 1), longest - 1)
    return [(start, min(start + longest, frames)) for start in starts]


def places(length: int, side: int, overlap: int) -> list[int]:
    """The places where tiles of this side begin along a length, so that neighbours overlap by at least `overlap`."""
    if length <= side:
        return [0]
    step = side - overlap
    count = -(-(length - side) // step)
    return [*range(0, count * step, step), length - side]


def in_space(run: Callable[[Tensor], Tensor], x: Tensor, tile: Tile, *, encoding: bool) -> Tensor:
    """The output of `run` for x (B, C, T, H, W), tile by tile in space. encoding: whether x is a clip, not latents."""
    unit, scale = (SPACE, 1 / SPACE) if encoding else (1, SPACE)
    side, overlap = unit * tile.side, unit * tile.overlap
    height, width = x.shape[-2:]
    if height <= side and width <= side:
        return run(x)
    out: Tensor | None = None
    weights = x.new_zeros((round(height * scale), round(width * scale)), dtype=torch.float32)
    for top, left in _corners(height, width, side, overlap):
        part = run(x[..., top : top + side, left : left + side])
        rows, columns = part.shape[-2:]
        y, z = round(top * scale), round(left * scale)
        ramp = round(overlap * scale)
        weight = _ramps(rows, ramp, y > 0, y + rows < len(weights), part.device)[:, None] * _ramps(
            columns, ramp, z > 0, z + columns < weights.shape[1], part.device
        )
        if out is None:
            out = part.new_zeros((*part.shape[:-2], *weights.shape), dtype=torch.float32)
        out[..., y : y + rows, z : z + columns] += part * weight
        weights[y : y + rows, z : z + columns] += weight
    assert out is not None
    return (out / weights).to(x.dtype)


def _corners(height: int, width: int, side: int, overlap: int) -> Iterator[tuple[int, int]]:
    for top in places(height, side, overlap):
        for left in places(width, side, overlap):
            yield top, left


def _ramps(length: int, ramp: int, before: bool, after: bool, device: torch.device) -> Tensor:
    """(length,) weights of 1 that fall towards an edge where there is a tile `before`, or `after`."""
    weight = torch.ones(length, device=device)
    rise = torch.arange(1, ramp + 1, device=device) / (ramp + 1)
    if before:
        weight[:ramp] = rise
    if after:
        weight[length - ramp :] = rise.flip(0)
    return weight
