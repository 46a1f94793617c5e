"""The fixed position codes of the video transformer, and its features of the timestep."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_PERIOD = 10_000.0


def timestep_features(t: Tensor, features: int = 256) -> Tensor:
    """Sinusoidal features (B, features), cosines first, of timesteps t (B,) in [0, 1000)."""
    half = features // 2
    frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def sines(positions: Tensor, width: int) -> Tensor:
    """(positions, width) float64: sines of each position at falling frequencies, then cosines."""
    half = width // 2
    angles = positions.double()[:, None] * MAX_PERIOD ** (-torch.arange(half, dtype=torch.float64) / half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def place_code(rows: int, columns: int, width: int, base: int, scale: int = 1) -> Tensor:
    """The code (rows * columns, width) float32 of the places in a frame, row by row; a place's column comes first.

    base: side of the trained grid, to which other grids are scaled.
    scale: by which positions are divided.
    """
    row, column = (
        sines(torch.arange(count, dtype=torch.float64) * base / (count * scale), width // 2)
        for count in (rows, columns)
    )
    code = torch.cat([column[None].expand(rows, -1, -1), row[:, None].expand(-1, columns, -1)], dim=-1)
    return code.reshape(rows * columns, width).float()


def frame_code(frames: int, width: int, stride: int) -> Tensor:
    """The code (frames, width) float32 of the frames. stride: by which their numbers are divided."""
    return sines(torch.arange(frames, dtype=torch.float64) / stride, width).float()
