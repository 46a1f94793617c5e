"""The attention context of computed tokens: the keys and values of all tokens, held or forecast where they are not
computed (engine/keys_values.py).

Region-adaptive sampling (RAS, arXiv 2502.10389) holds them. Compared with attention among the computed tokens only,
this gains many decibels (docs/experiments.md).
"""

from __future__ import annotations

from torch import Tensor

from .keys_values import ComputedKeys, KeysValues
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
