"""Cells: groups of tokens that skip-sparse attention can be run on as a whole.

The sparse attention of Open-Sora-Plan 1.3 numbers the tokens of a clip, frame by frame and row by row, and has two
kinds of block, by turns (k is 4). A token attends to those whose number leaves the same rest modulo k, or to those
whose number, divided by k, does. So only the rest modulo k * k of a token's number matters. A *cell* has one token of
each such rest; whichever cells are there, all sequences of sparse attention are equally long, so that a block can be
run on some of the cells.

Where the picture allows, a cell is a rectangle within a frame, else as many consecutive tokens.
"""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor


def cell_sides(rows: int, columns: int, skip: int) -> tuple[int, int] | None:
    """Height and width of the rectangles that are cells in frames of rows x columns tokens; None: there are none."""
    size = skip * skip
    width = gcd(columns, size)
    height = size // width
    return None if rows % height else (height, width)


def cell_order(frames: int, rows: int, columns: int, skip: int) -> Tensor:
    """The tokens' numbers (cells, k * k), in each cell by their rest. Those from frames * rows * columns on are
    padding, without which the last cell would not be full.
    """
    size, count = skip * skip, frames * rows * columns
    sides = cell_sides(rows, columns, skip)
    if sides is None:
        return torch.arange(-(-count // size) * size).view(-1, size)
    height, width = sides
    numbers = torch.arange(count).view(frames, rows // height, height, columns // width, width)
    cells = numbers.permute(0, 1, 3, 2, 4).reshape(-1, size)
    return cells.gather(1, (cells % size).argsort(dim=1))


def as_sequences(x: Tensor, skip: int, grouped: bool) -> Tensor:
    """The k sequences of each row of x (B, cells, k * k, D), among which attention is sparse: (B * k, cells * k, D).

    grouped: the sequences of the second kind of block.
    """
    x = x.unflatten(2, (skip, skip))  # (B, cells, number // k, number % k, D)
    return (x.permute(0, 2, 1, 3, 4) if grouped else x.permute(0, 3, 1, 2, 4)).flatten(2, 3).flatten(0, 1)


def from_sequences(x: Tensor, skip: int, grouped: bool) -> Tensor:
    """The inverse of `as_sequences`."""
    x = x.unflatten(0, (-1, skip)).unflatten(2, (-1, skip))
    return (x.permute(0, 2, 1, 3, 4) if grouped else x.permute(0, 2, 3, 1, 4)).flatten(2, 3)
