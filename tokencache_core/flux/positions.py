"""Positions of a Flux transformer's image tokens: image index, row and column.

The picture that is made has index 0; reference pictures have index 1 and lie beside each other, none over another, as
the host's `ReferenceLatent` node has them placed by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def grid_positions(
    rows: int,
    columns: int,
    *,
    index: int = 0,
    first_row: float = 0,
    first_column: float = 0,
    stride: float = 1,
    device: torch.device | str | None = None,
) -> Tensor:
    """(rows * columns, 3) positions, row by row, in float32."""
    row = torch.arange(rows, dtype=torch.float32, device=device) * stride + first_row
    column = torch.arange(columns, dtype=torch.float32, device=device) * stride + first_column
    grid = torch.stack(torch.meshgrid(row, column, indexing="ij"), dim=-1).flatten(0, 1)
    return torch.cat([torch.full_like(grid[:, :1], index), grid], dim=-1)


def reference_offsets(sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Where each reference picture begins, in tokens: below those before it, or to the right of them if that keeps the
    whole more square.
    """
    height = width = 0
    for rows, columns in sizes:
        row, column = (0, width) if rows + height > columns + width else (height, 0)
        yield row, column
        height, width = max(height, rows + row), max(width, columns + column)
