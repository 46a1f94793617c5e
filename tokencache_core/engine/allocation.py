"""How many tokens each block computes on a P-step: the paper's block level."""

from __future__ import annotations

from collections.abc import Sequence

from ..settings import CacheSettings


def tokens_per_block(
    settings: CacheSettings, n_blocks: int, n_tokens: int, shares: Sequence[float] = ()
) -> tuple[int, ...]:
    """n_l for each block: (1 - r) (L - K) N tokens in all over the cacheable blocks, N in each of the last K.

    shares: learned ones, one a cacheable block, in place of the settings'. Without them at most four different counts
    appear ({0, one partial count, N}), so that shapes repeat from step to step.
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
    """What a P-step computes of all block-tokens, 0..1, however many tokens there are."""
    many = 1000
    return sum(tokens_per_block(settings, n_blocks, many, shares)) / (n_blocks * many)


def on_ladder(shares: Sequence[float]) -> tuple[float, ...]:
    """Shares rounded to 0, 1/3, 2/3 or 1, with the sum of all as near as thirds allow (largest remainders first)."""
    thirds = [3 * min(1.0, share) for share in shares]
    rounded = [int(third) for third in thirds]
    by_remainder = sorted(range(len(thirds)), key=lambda block: rounded[block] - thirds[block])
    for block in by_remainder[: round(sum(thirds)) - sum(rounded)]:
        rounded[block] += 1
    return tuple(third / 3 for third in rounded)
