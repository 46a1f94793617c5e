"""What the computed tokens attend to: every token's keys and values, the uncomputed ones' from their last refresh.

Region-adaptive sampling (RAS, arXiv 2502.10389) does this too; against attention among the computed tokens alone it
is worth many decibels (docs/experiments.md).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from .mixed_tokens import MixedTokens
from .storage import Storage
from .token_index import TokenIndex


class AttentionContext:
    """Keys, values and mask of all tokens of one block for one set of rows, one entry per self-attention call.

    A call is among the block's own tokens when its keys are as many as the image tokens, or image and text tokens: cross-attention
    has other lengths, and keeps them on P-steps. Tokens are counted by dimension 1 of k and v, or by dimension 2 where heads are split
    off (`skip_reshape`).
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.entries: dict[int, tuple[Tensor, Tensor]] = {}
        self.masks: dict[int, Tensor | None] = {}
        self.device = torch.device("cpu")   # of the blocks

    def store(self, call: int, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
        self.device, (keys, values) = k.device, self.entries.get(call, (None, None))
        self.entries[call], self.masks[call] = (self.storage.keep_copy(k, keys), self.storage.keep_copy(v, values)), mask

    def send_for(self) -> None:
        """The block will soon be called: let keys and values that lie elsewhere come."""
        for kept in (tensor for entry in self.entries.values() for tensor in entry):
            self.storage.send_for(kept, self.device)

    def extend(self, call: int, k: Tensor, v: Tensor, computed: TokenIndex | MixedTokens, dim: int) -> tuple[Tensor, Tensor]:
        """The computed tokens' k, v written over their old rows; returns the keys and values of all tokens."""
        kept = self.entries[call]
        keys, values = (self.storage.fetch(tensor, k.device) for tensor in kept)
        extended = computed.scatter_(keys, k, dim), computed.scatter_(values, v, dim)
        self.entries[call] = self.storage.keep(keys, kept[0]), self.storage.keep(values, kept[1])
        return extended

    def keep_again(self) -> None:
        """In the storage's present form."""
        self.entries = {call: (self.storage.keep(keys), self.storage.keep(values)) for call, (keys, values) in self.entries.items()}

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
        return sum(k.nbytes + v.nbytes for k, v in self.entries.values())


class AttentionTap:
    """Counts one block's attention calls and passes them through its context; used for one block call, then dropped.

    image, joint: the tokens computed, of the image and as an attention over text and image counts them. On an I-step, where keys and
    values are stored, they are the numbers of all of these tokens.
    """

    def __init__(self, context: AttentionContext, image: TokenIndex | MixedTokens | int, joint: TokenIndex | MixedTokens | int) -> None:
        self.context, self.image, self.joint, self.calls, self.seconds = context, image, joint, 0, 0.0

    def __call__(self, attention: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
        """An `optimized_attention_override`: the attention function comes first, then its own arguments, the mask fifth or by name."""
        call, self.calls, started = self.calls, self.calls + 1, time.perf_counter()
        dim = 2 if kwargs.get("skip_reshape") else 1
        if isinstance(self.image, int):
            if k.shape[dim] in (self.image, self.joint):
                self.context.store(call, k, v, kwargs.get("mask", args[0] if args else None))
        elif (computed := self._computed(call, k.shape[dim])) is not None:
            k, v = self.context.extend(call, k, v, computed, dim)
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
