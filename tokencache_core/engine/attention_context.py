"""What the computed tokens attend to: every token's keys and values, the uncomputed ones' held or forecast
(engine/keys_values.py).

Region-adaptive sampling (RAS, arXiv 2502.10389) holds them; against attention among the computed tokens alone it
is worth many decibels (docs/experiments.md).
"""

from __future__ import annotations

from torch import Tensor

from .keys_values import ComputedKeys, KeysValues
from .storage import Storage


class AttentionContext:
    """Keys, values and mask of all tokens of one block for one set of rows, one entry per self-attention call.

    A call is among the block's own tokens when its keys are as many as the image tokens, or image and text tokens:
    cross-attention has other lengths, and keeps them on P-steps. Tokens are counted by dimension 1 of k and v, or by
    dimension 2 where heads are split off (`skip_reshape`). refreshes: as KeysValues has it.
    """

    def __init__(self, storage: Storage, refreshes: int) -> None:
        self.storage, self.refreshes = storage, refreshes
        self.entries: dict[int, KeysValues] = {}
        self.masks: dict[int, Tensor | None] = {}

    def store(self, call: int, k: Tensor, v: Tensor, mask: Tensor | None, tau: float, spacing: float = 0.0) -> None:
        self.entries.setdefault(call, KeysValues(self.storage, self.refreshes)).refresh(k, v, tau, spacing)
        self.masks[call] = mask

    def send_for(self) -> None:
        """The block will soon be called: let keys and values that lie elsewhere come."""
        for entry in self.entries.values():
            entry.send_for()

    def keep_again(self) -> None:
        """In the storage's present form."""
        for entry in self.entries.values():
            entry.keep_again()

    def mask(self, call: int, computed: ComputedKeys) -> Tensor | None:
        """The mask (..., queries or 1, keys) of all keys, its queries cut to those of the computed tokens."""
        mask = self.masks[call]
        if mask is None or mask.ndim < 2 or mask.shape[-2] != computed.n_tokens:
            return mask
        return computed.gather(mask if mask.ndim > 2 or computed.alike else mask[None], -2)

    @property
    def memory_bytes(self) -> int:
        return sum(entry.memory_bytes for entry in self.entries.values())
