"""What the computed tokens attend to: every token's keys and values, the uncomputed ones' held or forecast (engine/keys_values.py).

Region-adaptive sampling (RAS, arXiv 2502.10389) holds them; against attention among the computed tokens alone it
is worth many decibels (docs/experiments.md).
"""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from ..blocks.token_index import TokenIndex
from ..training.mixed_tokens import MixedTokens
from .keys_values import KeysValues
from .storage import Storage


class AttentionContext:
    """Keys, values and mask of all tokens of one block for one set of rows, one entry per self-attention call.

    A call is among the block's own tokens when its keys are as many as the image tokens, or image and text tokens: cross-attention
    has other lengths, and keeps them on P-steps. Tokens are counted by dimension 1 of k and v, or by dimension 2 where heads are split
    off (`skip_reshape`). refreshes: as KeysValues has it.
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

    def mask(self, call: int, computed: TokenIndex) -> Tensor | None:
        """The mask (..., queries or 1, keys) of all keys, its queries cut to those of the computed tokens."""
        mask = self.masks[call]
        if mask is None or mask.ndim < 2 or mask.shape[-2] != computed.n_tokens:
            return mask
        if mask.ndim == 2 and not computed.alike:
            mask = mask.expand(computed.tokens.shape[0], *mask.shape)
        return computed.gather(mask, -2)

    @property
    def memory_bytes(self) -> int:
        return sum(entry.memory_bytes for entry in self.entries.values())


class AttentionTap:
    """Counts one block's attention calls and passes them through its context; used for one block call, then dropped.

    image, joint: the tokens computed, of the image and as an attention over text and image counts them. On an I-step, where keys and
    values are stored, they are the numbers of all of these tokens. tau: of the evaluation; spacing: refreshes no further apart count as one.
    """

    def __init__(
        self, context: AttentionContext, image: TokenIndex | MixedTokens | int, joint: TokenIndex | MixedTokens | int, tau: float,
        spacing: float,
    ) -> None:
        self.context, self.image, self.joint, self.tau, self.spacing = context, image, joint, tau, spacing
        self.calls, self.seconds = 0, 0.0

    def __call__(self, attention: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
        """An `optimized_attention_override`: the attention function comes first, then its own arguments, the mask fifth or by name."""
        call, self.calls, started = self.calls, self.calls + 1, time.perf_counter()
        dim = 2 if kwargs.get("skip_reshape") else 1
        if isinstance(self.image, int):
            if k.shape[dim] in (self.image, self.joint):
                self.context.store(call, k, v, kwargs.get("mask", args[0] if args else None), self.tau, self.spacing)
        elif (computed := self._computed(call, k.shape[dim])) is not None:
            k, v = self.context.entries[call].with_computed(k, v, computed, dim, self.tau, self.spacing)
            if isinstance(computed, TokenIndex) and (mask := self.context.mask(call, computed)) is not None:
                args, kwargs = args[1:], {**kwargs, "mask": mask}
                if args:    # those after the mask keep their places
                    args, kwargs = (mask, *args), {name: value for name, value in kwargs.items() if name != "mask"}
        self.seconds += time.perf_counter() - started
        return attention(q, k, v, heads, *args, **kwargs)

    def _computed(self, call: int, length: int) -> TokenIndex | MixedTokens | None:
        """Which tokens `length` keys are of; None: not the block's own tokens."""
        if call not in self.context.entries:
            return None
        return next((index for index in (self.image, self.joint) if index.count == length), None)
