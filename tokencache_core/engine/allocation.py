"""How many tokens each block computes on a P-step: the paper's block level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..settings import CacheSettings


def tokens_per_block(
    settings: CacheSettings, n_blocks: int, n_tokens: int, shares: Sequence[float] = (),
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
            raise ValueError(f"there are {len(shares)} learned block shares, but the model has {cacheable} blocks before the last {settings.last_blocks}")
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


@dataclass(frozen=True)
class Unit:
    """Blocks first..last that share one fate on P-steps and, unless they run whole, one cached update."""

    kind: str   # "whole", "tokens" or "reuse"
    first: int
    last: int
    tokens: int


def group_blocks(counts: tuple[int, ...], n_tokens: int, streams: tuple[str, ...], same_tokens: bool) -> tuple[Unit, ...]:
    """Blocks as units: neighbours on the same stream of tokens that reuse everything, or compute as many tokens, are one unit.

    same_tokens: blocks that compute as many compute the same.
    """
    units: list[Unit] = []
    for index, (count, stream) in enumerate(zip(counts, streams, strict=True)):
        kind = "reuse" if count == 0 else "whole" if count == n_tokens else "tokens"
        joins = kind == "reuse" or kind == "tokens" and same_tokens
        if joins and units and (units[-1].kind, units[-1].tokens) == (kind, count) and streams[units[-1].last] == stream:
            units[-1] = Unit(kind, units[-1].first, index, count)
        else:
            units.append(Unit(kind, index, index, count))
    return tuple(units)
