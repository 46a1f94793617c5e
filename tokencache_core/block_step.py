"""The step this project is about: in one block, compute some tokens and reuse the rest."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .token_index import TokenIndex


def compute_or_reuse(
    x: Tensor, add_cached_update: Callable[[Tensor], Tensor], compute: TokenIndex, block: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """One block on a P-step (TokenCache, arXiv 2409.18523, section 3).

        x^l_n = x^{l-1}_n + a_n f^l_n(x^{l-1}) + (1 - a_n) cached_n

    x: (R, N, D) the block's input. add_cached_update: x -> x + the cached (reused or forecast) updates, a fresh
    tensor. compute: the tokens with a = 1. block: the block's own function, on (R, n, D) tokens.
    Returns the block's output (R, N, D), in which computed tokens are the block's own, and their updates (R, n, D).
    """
    out = add_cached_update(x)             # a = 0: input + cached update
    chosen = compute.gather(x)             # (R, n, D)
    computed = block(chosen)               # a = 1: the block's own output
    compute.scatter_(out, computed)
    return out, computed.float() - chosen.float()
