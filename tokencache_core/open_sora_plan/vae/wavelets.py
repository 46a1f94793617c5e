"""Haar wavelets of clips: sums and differences of neighbouring frames, rows and columns, as channels at half the size.

Bands lie one after the other in the channels, each with all channels of the clip. Of clips, the first is that of sums,
and its number has a bit each for differences of frames, rows and columns, in this order; of pictures, for columns and
rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE = 0.3536  # of the release; orthonormal would be 1 / sqrt(8)


def clip_bands(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, 8 C, T / 2, H / 2, W / 2). T must be even: a clip begins with its first frame twice."""
    halves = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (B, C, T/2, 2, H/2, 2, W/2, 2)
    bands = _mixed(_mixed(_mixed(halves, 3), 5), 7)
    return bands.permute(0, 3, 5, 7, 1, 2, 4, 6).flatten(1, 4) * SCALE


def clip_of_bands(bands: Tensor) -> Tensor:
    """The inverse of `clip_bands`."""
    halves = bands.unflatten(1, (2, 2, 2, -1))  # (B, 2, 2, 2, C, T/2, H/2, W/2)
    x = _mixed(_mixed(_mixed(halves, 1), 2), 3).permute(0, 4, 5, 1, 6, 2, 7, 3)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3) * SCALE


def picture_bands(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, 4 C, T, H / 2, W / 2), frame by frame."""
    halves = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2))  # (B, C, T, H/2, 2, W/2, 2)
    return _mixed(_mixed(halves, 4), 6).permute(0, 6, 4, 1, 2, 3, 5).flatten(1, 3) / 2


def picture_of_bands(bands: Tensor) -> Tensor:
    """The inverse of `picture_bands`."""
    halves = bands.unflatten(1, (2, 2, -1))  # (B, of columns 2, of rows 2, C, T, H/2, W/2)
    x = _mixed(_mixed(halves, 1), 2).permute(0, 3, 4, 5, 2, 6, 1)
    return x.flatten(5, 6).flatten(3, 4) / 2


def _mixed(x: Tensor, dim: int) -> Tensor:
    """Sum and difference in place of the two entries of a dimension."""
    a, b = x.unbind(dim)
    return torch.stack([a + b, a - b], dim=dim)
