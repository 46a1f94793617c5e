"""Runs of blocks that share a fate on P-steps, under way in one call of the network.

What a run adds to a token is one update, the sum of its blocks': the forecast of a sum is the sum of the forecasts. So a run is gathered
once, forecast once and scattered once, however many blocks it has, and keeps one history.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..blocks.token_index import TokenIndex
from .allocation import Unit
from .block_step import compute_or_reuse


class RunTotal:
    """On an I-step: the sum of a run's updates, one a stream, gathered while its blocks run whole.

    Where a block is given the very tensor that the one before returned, their sum needs no arithmetic until the end.
    `telescopes` says that nothing writes into that tensor in between.
    """

    def __init__(self, unit: Unit, telescopes: bool) -> None:
        self.unit, self.telescopes = unit, telescopes
        self.start: list[Tensor] | None = None
        self.last: list[Tensor] = []
        self.last_block = unit.first
        self.total: list[Tensor] | None = None

    def enter(self, streams: list[Tensor], in_place: bool) -> None:
        if self.start is not None and all(a is b for a, b in zip(streams, self.last)):
            return
        self.settle()
        self.start = [stream.clone() for stream in streams] if in_place else streams

    def leave(self, streams: list[Tensor], block: int) -> None:
        self.last, self.last_block = streams, block
        if not self.telescopes:
            self.settle()

    def settle(self) -> list[Tensor] | None:
        """Add what has gathered since `start`; returns the total so far, float32."""
        if self.start is not None:
            part = [after.float() - before.float() for after, before in zip(self.last, self.start)]
            self.total = part if self.total is None else [a.add_(b) for a, b in zip(self.total, part)]
            self.start = None
        return self.total


class TokenRun:
    """On a P-step: the chosen tokens on their way through a run's blocks.

    x: (R, N, D) the stream where the run begins. compute: the image tokens chosen; in_stream: the tokens of x that are computed, the same
    or, in a joint stream, those and all of the text.
    """

    def __init__(self, unit: Unit, x: Tensor, compute: TokenIndex, in_stream: TokenIndex, in_place: bool) -> None:
        self.unit, self.x, self.compute, self.in_stream = unit, x, compute, in_stream
        self.chosen = in_stream.gather(x)
        self.tokens = self.chosen.clone() if in_place else self.chosen      # as the next block is given them

    def leave(self, add_cached_update: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The stream (R, N, D) where the run ends, and what the run added to the chosen tokens, (R, n, D) float32."""
        out = compute_or_reuse(self.x, add_cached_update, self.in_stream, self.tokens)
        return out, self.tokens.float() - self.chosen.float()
