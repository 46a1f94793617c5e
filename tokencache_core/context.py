"""What the computed tokens attend to: every token's keys and values, the uncomputed ones' from their last refresh.

Region-adaptive sampling (RAS, arXiv 2502.10389) does this too; against attention among the computed tokens alone it
is worth many decibels (docs/experiments.md).
"""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from .mixed_tokens import MixedTokens
from .token_index import TokenIndex


class AttentionContext:
    """Keys and values of all tokens of one block for one set of rows, one entry per self-attention call.

    Tokens are counted by dimension 1 of k and v, or by dimension 2 where heads are split off (`skip_reshape`).
    """

    def __init__(self, self_attention_calls: tuple[int, ...]) -> None:
        self.self_attention_calls = self_attention_calls
        self.entries: dict[int, tuple[Tensor, Tensor]] = {}

    def store(self, call: int, k: Tensor, v: Tensor) -> None:
        if call in self.self_attention_calls:
            self.entries[call] = (k.clone(), v.clone())

    def extend(self, call: int, k: Tensor, v: Tensor, computed: TokenIndex | MixedTokens, dim: int) -> tuple[Tensor, Tensor]:
        """The computed tokens' k, v written over their old rows; returns the keys and values of all tokens."""
        if call not in self.self_attention_calls:
            return k, v
        keys, values = self.entries[call]
        return computed.scatter_(keys, k, dim), computed.scatter_(values, v, dim)

    @property
    def memory_bytes(self) -> int:
        return sum(k.nbytes + v.nbytes for k, v in self.entries.values())


class AttentionTap:
    """Counts one block's attention calls and passes them through its context; used for one block call, then dropped.

    `compute` is None on an I-step, where keys and values are stored, and the computed tokens on a P-step.
    """

    def __init__(self, context: AttentionContext, compute: TokenIndex | MixedTokens | None) -> None:
        self.context, self.compute, self.calls, self.seconds = context, compute, 0, 0.0

    def __call__(self, attention: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """An `optimized_attention_override`: the attention function comes first, then its own arguments."""
        call, self.calls, started = self.calls, self.calls + 1, time.perf_counter()
        if self.compute is None:
            self.context.store(call, k, v)
        else:
            k, v = self.context.extend(call, k, v, self.compute, dim=2 if kwargs.get("skip_reshape") else 1)
        self.seconds += time.perf_counter() - started
        return attention(q, k, v, *args, **kwargs)
