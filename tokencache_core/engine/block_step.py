"""The step this project is about: compute some tokens and reuse the rest."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..blocks.token_index import TokenIndex


def compute_or_reuse(
    x: Tensor, add_cached_update: Callable[[Tensor], Tensor], compute: TokenIndex, computed: Tensor,
) -> Tensor:
    """A block on a P-step (TokenCache, arXiv 2409.18523, section 3), or several one after the other that compute the same tokens.

        x^l_n = x^{l-1}_n + a_n f^l_n(x^{l-1}) + (1 - a_n) cached_n

    x: (R, N, D) what goes in. add_cached_update: x -> x + the cached (reused or forecast) updates, a fresh tensor.
    compute: the tokens with a = 1. computed: (R, n, D) what the blocks made of these.
    Returns (R, N, D), in which computed tokens are the blocks' own output.
    """
    out = add_cached_update(x)                  # a = 0: input + cached update
    return compute.scatter_(out, computed)      # a = 1: the blocks' own output
