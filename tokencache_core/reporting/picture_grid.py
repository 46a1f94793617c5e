"""Grids of sampled pictures, saved as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SHORTEST_SIDE = 128  # pixels; smaller pictures are enlarged
GAP = 4


def picture_grid(batches: Sequence[Tensor], columns: int) -> Tensor:
    """A grid of pictures with `columns` columns, uint8 (height, width, 3).

    batches: each (B, 3, H, W) in [-1, 1]; every batch begins a new row.
    """
    return torch.cat([_grid(batch.detach().float().cpu(), columns) for batch in batches])


def save_png(file: Path, pixels: Tensor) -> None:
    """Save pixels, uint8 (height, width, 3), as a PNG file."""
    Image.fromarray(pixels.numpy()).save(file, format="PNG")


def _grid(pictures: Tensor, columns: int) -> Tensor:
    scale = max(1, -(-SHORTEST_SIDE // min(pictures.shape[-2:])))
    pictures = F.interpolate(pictures.clamp(-1, 1), scale_factor=scale, mode="nearest")
    missing = -len(pictures) % columns
    pictures = F.pad(pictures, (0, GAP, 0, GAP, 0, 0, 0, missing), value=1.0)
    _, channels, height, width = pictures.shape
    rows = pictures.view(-1, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = rows.reshape(-1, columns * width, channels)
    return ((pixels + 1) * 127.5).round().to(torch.uint8)
