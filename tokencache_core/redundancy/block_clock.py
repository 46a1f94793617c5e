"""Theory beside practice: each block's share of the block-tokens against its share of the clock, and what lies outside
of the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .measure import StepClock, groups_of

MOST_GROUPS = 12  # of blocks, in a line of text


@dataclass(frozen=True)
class BlockClock:
    """Of whole steps, all but the first, in which models are loaded. tokens: share of the block-tokens, by block.
    seconds: of the blocks' time, by block; none where the clock does not know (a GPU). inside: the share of a step's
    time that is spent in blocks; None likewise. step: seconds, the median.
    """

    tokens: tuple[float, ...]
    seconds: tuple[float, ...]
    inside: float | None
    step: float

    @classmethod
    def of(cls, clocks: Sequence[StepClock]) -> BlockClock:
        later = clocks[1:] or clocks
        tokens = _shares([clock.block_tokens for clock in later])
        step = median(clock.seconds for clock in later)
        if not all(clock.by_block for clock in later):
            return cls(tokens, (), None, step)
        inside = sum(sum(clock.by_block) for clock in later) / sum(clock.seconds for clock in later)
        return cls(tokens, _shares([clock.by_block for clock in later]), min(1.0, inside), step)

    def most_speedup(self, steps: int, i_steps: int) -> float:
        """Of a run whose P-steps compute nothing inside of the blocks and forecast for free. Where it is not known what
        lies outside, that is taken for nothing.
        """
        outside = 0.0 if self.inside is None else 1 - self.inside
        return steps / (i_steps + (steps - i_steps) * outside)

    def text(self) -> str:
        took = f"clock: a whole step takes {self.step * 1000:.1f} ms (median, without the first)"
        if self.inside is None:
            return (
                f"{took}, what measuring took included. A GPU runs behind the clock: seconds are not split by block, "
                "which would take stalling it."
            )
        parts = [
            f"{_blocks(first, last)} {sum(self.tokens[first : last + 1]):.1%} / "
            f"{sum(self.seconds[first : last + 1]):.1%}"
            for first, last in groups_of(len(self.tokens), MOST_GROUPS)
        ]
        return (
            f"{took}, {self.inside:.0%} of it inside of the blocks; the rest lies outside, where no cache saves "
            "anything\n"
            f"share of the block-tokens / of the seconds in blocks: {', '.join(parts)}"
        )


def _shares(by_step: Sequence[Sequence[float]]) -> tuple[float, ...]:
    sums = [sum(values) for values in zip(*by_step)]
    return tuple(value / (sum(sums) or 1) for value in sums)


def _blocks(first: int, last: int) -> str:
    return f"block {first + 1}" if first == last else f"blocks {first + 1} to {last + 1}"
