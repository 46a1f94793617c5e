"""Keys and values of tokens that are not computed: held at their last values, or forecast to first order.

Over consecutive steps, features move nearly along a line (TaylorSeer, arXiv 2503.06923): keys and values as well as
updates. A token's line goes through the last two I-steps or, once a P-step has computed the token, through the last
I-step and that P-step. The second order oscillates (docs/findings/context.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..sampling.polynomial import lagrange_weights
from .forecast import FLOAT16_MAX, slot_of
from .pieces import Piece, joined, same
from .storage import Storage


def extrapolated(newest: Tensor, before: Tensor, weight: float) -> Tensor:
    """newest + weight (newest - before), a new tensor of their shape and dtype; float16 saturates, not overflows."""
    out = torch.lerp(newest, before, -weight)  # one pass over memory
    return out.clamp_(-FLOAT16_MAX, FLOAT16_MAX) if out.dtype == torch.float16 else out


def on_line(newest: Tensor, before: Tensor, taus: Sequence[float], tau: float) -> Tensor:
    """The line through `newest` at taus[0] and `before` at taus[1], evaluated at `tau`: a new tensor."""
    return extrapolated(newest, before, -lagrange_weights(list(taus), tau)[1])


class ComputedKeys(Protocol):
    """The tokens that a block has computed: a `TokenIndex`, or its relaxed counterpart in training.

    count, n_tokens: number of computed tokens, and of all tokens.
    alike: whether every row has the same computed tokens.
    """

    alike: bool

    @property
    def count(self) -> int: ...

    @property
    def n_tokens(self) -> int: ...

    def gather(self, x: Tensor, dim: int = 1) -> Tensor:
        """The computed tokens of `x`, whose tokens lie along dimension `dim`."""
        ...

    def scatter_(self, kept: Tensor, computed: Tensor, dim: int = 1) -> Tensor:
        """Write `computed` into `kept`, which has all tokens; returns what the computed tokens attend to."""
        ...


class KeysValues:
    """Keys and values of all tokens of one block, as one of its attention calls receives them.

    refreshes: number of I-steps whose keys and values are kept. With 1, those of the last I-step are held, and tokens
        computed since then overwrite theirs. With 2, each token's line is evaluated at the current tau.
    """

    def __init__(self, storage: Storage, refreshes: int) -> None:
        self.storage, self.refreshes = storage, refreshes
        self.taus: list[float] = []  # of the I-steps kept, the newest first
        # keys and values at each, in the block's shape and dtype; for a token that a P-step has computed since, the
        # second ones are where its new line passes at that tau
        self.kept: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.device = torch.device("cpu")  # of the block

    def refresh(self, k: Tensor, v: Tensor, tau: float, spacing: float = 0.0) -> None:
        """Keep copies of k and v of all tokens, in the slot that `forecast.slot_of` gives."""
        slot, self.device = slot_of(self.taus, tau, spacing, self.refreshes), k.device
        self.taus = [tau, *self.taus[:slot], *self.taus[slot + 1 :]]
        for kept, new in zip(self.kept, (k, v)):
            place = kept.pop(slot) if slot < len(kept) else None
            kept.insert(0, self.storage.keep_copy(new, place))

    @classmethod
    def assembled(cls, pieces: Sequence[Piece[KeysValues]]) -> KeysValues:
        """The keys and values of rows that are those of one conditioning in each of several others."""
        first = pieces[0].source
        same([piece.source.taus for piece in pieces])
        entry = cls(first.storage, first.refreshes)
        entry.taus, entry.device = list(first.taus), first.device
        for which, kept in enumerate(entry.kept):
            for slot in range(len(first.taus)):
                kept.append(joined([piece.rows(piece.source.kept[which][slot]) for piece in pieces]))
        return entry

    def with_computed(
        self, k: Tensor, v: Tensor, computed: ComputedKeys, dim: int, tau: float, spacing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens at `tau`.

        k, v: those of the computed tokens, which lie along dimension `dim`.
        """
        keys, values = (
            self._with_computed(kept, new, computed, dim, tau, spacing) for kept, new in zip(self.kept, (k, v))
        )
        return keys, values

    def _with_computed(
        self, kept: list[Tensor], new: Tensor, computed: ComputedKeys, dim: int, tau: float, spacing: float
    ) -> Tensor:
        newest, *before = self.storage.fetch_each(kept, self.device)
        if self.refreshes == 1:
            extended = computed.scatter_(newest, new, dim)
            kept[0] = self.storage.keep(newest, kept[0])
            return extended
        if not before:  # no line through one I-step
            return computed.scatter_(newest.clone(), new, dim)
        now = on_line(newest, before[0], self.taus, tau)
        if abs(tau - self.taus[0]) > spacing:  # from now on, the computed tokens' lines go through their new values
            turned = on_line(computed.gather(newest, dim), new, (self.taus[0], tau), self.taus[1])
            computed.scatter_(before[0], turned, dim)
            kept[1] = self.storage.keep(before[0], kept[1])
        return computed.scatter_(now, new, dim)

    def prefetch(self) -> None:
        """Start copying them to the block's device, since they will be needed soon."""
        for kept in self.kept:
            for tensor in kept:
                self.storage.prefetch(tensor, self.device)

    def to_current_form(self) -> None:
        """Convert them to the storage's current form."""
        for kept in self.kept:
            kept[:] = [self.storage.keep(tensor) for tensor in kept]

    @property
    def memory_bytes(self) -> int:
        return sum(tensor.nbytes for kept in self.kept for tensor in kept)
