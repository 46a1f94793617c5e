"""The attention context of computed tokens: the keys and values of all tokens, held or forecast where they are not
computed (engine/keys_values.py).

Region-adaptive sampling (RAS, arXiv 2502.10389) holds them. Compared with attention among the computed tokens only,
this gains many decibels (docs/findings/context.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .keys_values import ComputedKeys, KeysValues
from .pieces import Piece, joined, same
from .storage import Storage


class AttentionContext:
    """Keys, values and masks of all tokens of one block, for one set of rows: one entry per self-attention call.

    A call counts as self-attention if it has as many keys as there are image tokens, or image and text tokens.
    Cross-attention has other lengths, which do not change on P-steps. Tokens lie along dimension 1 of k and v, or along
    dimension 2 if the heads are already split (`skip_reshape`).

    refreshes: as in `KeysValues`.
    """

    def __init__(self, storage: Storage, refreshes: int) -> None:
        self.storage, self.refreshes = storage, refreshes
        self.entries: dict[int, KeysValues] = {}
        self.masks: dict[int, Tensor | None] = {}

    def store(self, call: int, k: Tensor, v: Tensor, mask: Tensor | None, tau: float, spacing: float = 0.0) -> None:
        self.entries.setdefault(call, KeysValues(self.storage, self.refreshes)).refresh(k, v, tau, spacing)
        self.masks[call] = mask

    @classmethod
    def assembled(cls, pieces: Sequence[Piece[AttentionContext]]) -> AttentionContext:
        """The context of rows that are those of one conditioning in each of several other contexts."""
        first = pieces[0].source
        same([list(piece.source.entries) for piece in pieces])
        context = cls(first.storage, first.refreshes)
        for call in first.entries:
            context.entries[call] = KeysValues.assembled(
                [piece.with_source(piece.source.entries[call]) for piece in pieces]
            )
            masks = [piece.source.masks[call] for piece in pieces]
            same([mask is None for mask in masks])
            some = [mask for mask in masks if mask is not None]
            by_row = some and some[0].ndim > 2 and some[0].shape[0] > 1
            if by_row or (len(some) > 1 and any(mask is not some[0] for mask in some)):
                some = [joined([piece.rows(mask) for piece, mask in zip(pieces, some)])]
            context.masks[call] = some[0] if some else None
        return context

    def prefetch(self) -> None:
        """Start copying keys and values to the block's device, since the block will be called soon."""
        for entry in self.entries.values():
            entry.prefetch()

    def to_current_form(self) -> None:
        """Convert everything to the storage's current form."""
        for entry in self.entries.values():
            entry.to_current_form()

    def mask(self, call: int, computed: ComputedKeys) -> Tensor | None:
        """The mask (..., queries or 1, keys) over all keys, with its queries reduced to the computed tokens."""
        mask = self.masks[call]
        if mask is None or mask.ndim < 2 or mask.shape[-2] != computed.n_tokens:
            return mask
        return computed.gather(mask if mask.ndim > 2 or computed.alike else mask[None], -2)

    @property
    def memory_bytes(self) -> int:
        return sum(entry.memory_bytes for entry in self.entries.values())
