"""How many tokens each block computes on a P-step: the paper's block level."""

from __future__ import annotations

from collections.abc import Sequence

from ..settings import CacheSettings


def tokens_per_block(
    settings: CacheSettings, n_blocks: int, n_tokens: int, shares: Sequence[float] = ()
) -> tuple[int, ...]:
    """The token counts n_l, one per block: (1 - r) (L - K) N in total for the cacheable blocks, N in the last K each.

    n_blocks, n_tokens: L and N.
    shares: learned shares of tokens, one per cacheable block, which replace the settings' allocation. Without them
        there are at most three different counts (0, one partial count, N), so that tensor shapes repeat.
    """
    cacheable = n_blocks - settings.last_blocks
    if cacheable < 0:
        raise ValueError(f"last_blocks is {settings.last_blocks}, but the model has only {n_blocks} blocks")
    if shares:
        if len(shares) != cacheable:
            raise ValueError(
                f"there are {len(shares)} learned block shares, but the model has {cacheable} blocks before the last "
                f"{settings.last_blocks}"
            )
        return (*[round(share * n_tokens) for share in shares], *[n_tokens] * settings.last_blocks)
    budget = round((1 - settings.cache_ratio) * cacheable * n_tokens)
    if settings.shares == "uniform":
        counts = [round(budget / cacheable)] * cacheable if cacheable else []
    else:
        whole, rest = divmod(budget, n_tokens)
        counts = ([n_tokens] * whole + [rest] + [0] * cacheable)[:cacheable]
    return (*counts, *[n_tokens] * settings.last_blocks)


def compute_share(settings: CacheSettings, n_blocks: int, shares: Sequence[float] = ()) -> float:
    """The share of all block-tokens that a P-step computes, 0..1, independent of the number of tokens."""
    n_tokens = 1000
    return sum(tokens_per_block(settings, n_blocks, n_tokens, shares)) / (n_blocks * n_tokens)


def on_ladder(shares: Sequence[float]) -> tuple[float, ...]:
    """The shares rounded to 0, 1/3, 2/3 or 1 by the largest-remainder method, which keeps their sum to the nearest
    third.
    """
    thirds = [3 * min(1.0, share) for share in shares]
    rounded = [int(third) for third in thirds]
    by_remainder = sorted(range(len(thirds)), key=lambda block: rounded[block] - thirds[block])
    for block in by_remainder[: round(sum(thirds)) - sum(rounded)]:
        rounded[block] += 1
    return tuple(third / 3 for third in rounded)
