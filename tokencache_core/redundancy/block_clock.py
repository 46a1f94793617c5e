"""Timing of blocks: each block's share of the block-tokens and of the time, and the time spent outside the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..words.message import Message, joined, lines, say
from .measure import StepClock, groups_of

MAX_GROUPS = 12  # of blocks, in a line of text


@dataclass(frozen=True)
class BlockClock:
    """The timing of full steps, without the first one, in which models are loaded.

    tokens: for each block, its share of the block-tokens.
    seconds: for each block, its share of the time spent in blocks; empty if not known (on a GPU).
    inside: the share of a step's time that is spent in blocks; None if not known.
    step: the median seconds of a step.
    """

    tokens: tuple[float, ...]
    seconds: tuple[float, ...]
    inside: float | None
    step: float

    @classmethod
    def of(cls, clocks: Sequence[StepClock]) -> BlockClock:
        """The timing of a run, from the clocks of its evaluations."""
        later = clocks[1:] or clocks
        tokens = _shares([clock.block_tokens for clock in later])
        step = median(clock.seconds for clock in later)
        if not all(clock.by_block for clock in later):
            return cls(tokens, (), None, step)
        inside = sum(sum(clock.by_block) for clock in later) / sum(clock.seconds for clock in later)
        return cls(tokens, _shares([clock.by_block for clock in later]), min(1.0, inside), step)

    def most_speedup(self, steps: int, i_steps: int) -> float:
        """The upper limit of a run's speed-up, if P-steps cost nothing inside the blocks.

        If the time outside the blocks is not known, it is assumed to be zero.
        """
        outside = 0.0 if self.inside is None else 1 - self.inside
        return steps / (i_steps + (steps - i_steps) * outside)

    def text(self) -> Message:
        """The timing as text."""
        took = say(
            "clock_full_step",
            "clock: a full step takes {milliseconds} ms (median, without the first)",
            milliseconds=f"{self.step * 1000:.1f}",
        )
        if self.inside is None:
            return say(
                "clock_on_a_gpu",
                "{took}, including the time for measuring. On a GPU, seconds are not split by block, since that would "
                "mean stalling it.",
                took=took,
            )
        parts = [
            say(
                "clock_of_blocks",
                "{blocks} {tokens} / {seconds}",
                blocks=_blocks(first, last),
                tokens=f"{sum(self.tokens[first : last + 1]):.1%}",
                seconds=f"{sum(self.seconds[first : last + 1]):.1%}",
            )
            for first, last in groups_of(len(self.tokens), MAX_GROUPS)
        ]
        return lines(
            say(
                "clock_inside",
                "{took}, {inside} of it inside the blocks; the rest is outside, where a cache saves nothing",
                took=took,
                inside=f"{self.inside:.0%}",
            ),
            say(
                "clock_shares",
                "share of the block-tokens / of the seconds in blocks: {parts}",
                parts=joined(", ", parts),
            ),
        )


def _shares(by_step: Sequence[Sequence[float]]) -> tuple[float, ...]:
    sums = [sum(values) for values in zip(*by_step)]
    return tuple(value / (sum(sums) or 1) for value in sums)


def _blocks(first: int, last: int) -> Message:
    if first == last:
        return say("clock_block", "block {number}", number=first + 1)
    return say("clock_blocks", "blocks {first} to {last}", first=first + 1, last=last + 1)
