"""Pieces of what is kept: the rows of one conditioning among those of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")
T = TypeVar("T")


class Unlike(Exception):
    """Pieces do not go together: they were not refreshed at the same times, or count other tokens."""


@dataclass(frozen=True)
class Piece(Generic[S]):
    """The rows of conditioning number `index` of `of`, in `source`."""

    source: S
    index: int
    of: int

    def with_source(self, source: T) -> Piece[T]:
        """The same rows of something else."""
        return Piece(source, self.index, self.of)

    def count(self, rows: int) -> int:
        """How many of `rows` these are."""
        return rows // self.of

    def rows(self, tensor: Tensor) -> Tensor:
        """What a tensor (R, ...) has of them; a tensor without rows, (1, ...), is the same for all."""
        if tensor.shape[0] == 1 and self.of > 1:
            return tensor
        return tensor.reshape(self.of, -1, *tensor.shape[1:])[self.index]


def joined(parts: Sequence[Tensor]) -> Tensor:
    """One tensor of the rows of all, in this order."""
    if len(parts) == 1:
        return parts[0].clone()
    if len({(part.shape[1:], part.dtype, part.device) for part in parts}) > 1:
        raise Unlike
    return torch.cat(list(parts))


def same(values: Sequence[object]) -> None:
    """`Unlike` where the values are not all equal."""
    if any(value != values[0] for value in values):
        raise Unlike
