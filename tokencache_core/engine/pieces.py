"""Pieces of what is kept: the rows of one conditioning out of those of several, to be joined with other pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")
T = TypeVar("T")


class Unlike(Exception):
    """Pieces do not fit together: they were refreshed at different times, or have different tokens."""


@dataclass(frozen=True)
class Piece(Generic[S]):
    """The rows of conditioning number `index` of `of`, in `source`."""

    source: S
    index: int
    of: int

    def with_source(self, source: T) -> Piece[T]:
        """The rows of the same conditioning in another source."""
        return Piece(source, self.index, self.of)

    def count(self, rows: int) -> int:
        """The number of these rows, out of `rows`."""
        return rows // self.of

    def rows(self, tensor: Tensor) -> Tensor:
        """These rows of a tensor (R, ...); a tensor without rows, (1, ...), is the same for all."""
        if tensor.shape[0] == 1 and self.of > 1:
            return tensor
        return tensor.reshape(self.of, -1, *tensor.shape[1:])[self.index]


def joined(parts: Sequence[Tensor]) -> Tensor:
    """A new tensor of the rows of all parts, in their order; `Unlike` if their shapes, dtypes or devices differ."""
    if len(parts) == 1:
        return parts[0].clone()
    if len({(part.shape[1:], part.dtype, part.device) for part in parts}) > 1:
        raise Unlike
    return torch.cat(list(parts))


def same(values: Sequence[object]) -> None:
    """Raise `Unlike` unless all values are equal."""
    if any(value != values[0] for value in values):
        raise Unlike
