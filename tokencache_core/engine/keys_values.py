"""Keys and values of tokens that are not computed: held since they last were, or forecast to first order.

Features of consecutive steps move nearly along a line (TaylorSeer, arXiv 2503.06923), keys and values as well as
updates. A token's line goes through the last two I-steps or, once a P-step has computed the token, through the last
I-step and that: two points of one token's own time. The second order swings (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..sampling.polynomial import lagrange_weights
from .forecast import slot_of
from .pieces import Piece, joined, same
from .storage import Storage


def extrapolated(newest: Tensor, before: Tensor, weight: float) -> Tensor:
    """newest + weight (newest - before), a fresh tensor of their shape and type; float16 saturates instead of
    overflowing.
    """
    out = torch.lerp(newest, before, -weight)  # one pass over memory
    return out.clamp_(-65504, 65504) if out.dtype == torch.float16 else out


def on_line(newest: Tensor, before: Tensor, taus: Sequence[float], tau: float) -> Tensor:
    """At `tau`, the line through `newest` at taus[0] and `before` at taus[1]; a fresh tensor."""
    return extrapolated(newest, before, -lagrange_weights(list(taus), tau)[1])


class ComputedKeys(Protocol):
    """Which of all tokens a block has computed: a `TokenIndex`, or training's relaxed counterpart of one.

    count: how many. n_tokens: of how many. alike: every row has the same ones.
    """

    alike: bool

    @property
    def count(self) -> int: ...

    @property
    def n_tokens(self) -> int: ...

    def gather(self, x: Tensor, dim: int = 1) -> Tensor:
        """What `x`, whose dimension `dim` counts tokens, has of the computed ones."""
        ...

    def scatter_(self, kept: Tensor, computed: Tensor, dim: int = 1) -> Tensor:
        """`computed` written into `kept`, which has all tokens; returns what computed tokens attend to."""
        ...


class KeysValues:
    """Keys and values of all tokens of one block, as one of its attention calls is given them.

    refreshes: of how many I-steps they are kept. 1: those of the last are held, and tokens computed since are written
        over them.
    2: each token's line is taken at the present tau.
    """

    def __init__(self, storage: Storage, refreshes: int) -> None:
        self.storage, self.refreshes = storage, refreshes
        self.taus: list[float] = []  # of the I-steps kept, the newest first
        self.kept: tuple[list[Tensor], list[Tensor]] = (
            [],
            [],
        )  # keys and values at each, of the block's own shape and type
        self.device = torch.device("cpu")  # of the block

    def refresh(self, k: Tensor, v: Tensor, tau: float, spacing: float = 0.0) -> None:
        """Keep copies of k and v of all tokens, in place of those that `engine.forecast.slot_of` names."""
        slot, self.device = slot_of(self.taus, tau, spacing, self.refreshes), k.device
        self.taus = [tau, *self.taus[:slot], *self.taus[slot + 1 :]]
        for kept, new in zip(self.kept, (k, v)):
            place = kept.pop(slot) if slot < len(kept) else None
            kept.insert(0, self.storage.keep_copy(new, place))

    @classmethod
    def assembled(cls, pieces: Sequence[Piece[KeysValues]]) -> KeysValues:
        """Of the rows of one conditioning in each of others."""
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
        """Keys and values of all tokens at `tau`: the computed ones' are k and v, whose dimension `dim` counts them."""
        keys, values = (
            self._with_computed(kept, new, computed, dim, tau, spacing) for kept, new in zip(self.kept, (k, v))
        )
        return keys, values

    def _with_computed(
        self, kept: list[Tensor], new: Tensor, computed: ComputedKeys, dim: int, tau: float, spacing: float
    ) -> Tensor:
        newest, *before = self.storage.in_turn(kept, self.device)
        if self.refreshes == 1:
            extended = computed.scatter_(newest, new, dim)
            kept[0] = self.storage.keep(newest, kept[0])
            return extended
        if not before:  # one I-step makes no line
            return computed.scatter_(newest.clone(), new, dim)
        now = on_line(newest, before[0], self.taus, tau)
        if abs(tau - self.taus[0]) > spacing:  # the computed tokens' lines go through what they are now
            turned = on_line(computed.gather(newest, dim), new, (self.taus[0], tau), self.taus[1])
            computed.scatter_(before[0], turned, dim)
            kept[1] = self.storage.keep(before[0], kept[1])
        return computed.scatter_(now, new, dim)

    def send_for(self) -> None:
        """They will soon be asked for: let those that lie elsewhere come."""
        for kept in self.kept:
            for tensor in kept:
                self.storage.send_for(tensor, self.device)

    def keep_again(self) -> None:
        """In the storage's present form."""
        for kept in self.kept:
            kept[:] = [self.storage.keep(tensor) for tensor in kept]

    @property
    def memory_bytes(self) -> int:
        return sum(tensor.nbytes for kept in self.kept for tensor in kept)
