"""Spans: neighbouring blocks with one fate on P-steps. Here is the paper's equation, and what a block does on either
kind of step.

What a span's blocks together add to a token is one *update*: the forecast of a sum is the sum of the forecasts. So a
span is gathered once, forecast once and scattered once, however many blocks it has, and keeps one history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..blocks.call import BlockCall
from ..blocks.token_index import TokenIndex
from .attention_context import AttentionContext
from .attention_hook import Extending, Storing
from .forecast import SpanHistory, TokenHistory
from .pieces import Piece, same
from .span_layout import SpanLayout
from .storage import Storage

if TYPE_CHECKING:
    from .network_call import NetworkCall


def compute_or_reuse(
    x: Tensor, add_cached_update: Callable[[Tensor], Tensor], compute: TokenIndex, computed: Tensor
) -> Tensor:
    """A block, or a span of blocks, on a P-step (TokenCache, arXiv 2409.18523, section 3):

        x^l_n = x^{l-1}_n + a_n f^l_n(x^{l-1}) + (1 - a_n) cached_n

    x: (R, N, D) what goes in. add_cached_update: x -> x + the cached (reused or forecast) updates, a fresh tensor.
    compute: the tokens with a = 1. computed: (R, n, D) what the blocks made of these.
    Returns (R, N, D), in which computed tokens are the blocks' own output.
    """
    out = add_cached_update(x)  # a = 0: input + cached update
    return compute.scatter_(out, computed)  # a = 1: the blocks' own output


@dataclass(frozen=True)
class Keeping:
    """How spans keep what they keep. order, reach: of forecasts. key_refreshes: I-steps whose keys and values are kept;
    0: none.
    """

    order: int
    reach: float
    key_refreshes: int
    storage: Storage


class WholeSpan:
    """A block that computes all of its tokens on every step. The other kinds of span do more; they keep the same
    interface.
    """

    def __init__(self, layout: SpanLayout, keeping: Keeping) -> None:
        self.layout, self.keeping = layout, keeping

    def begin(self) -> None:
        """A new call of the network begins; what one that failed has left half done is forgotten."""

    def take(self, pieces: Sequence[Piece[Any]]) -> None:
        """Keep what spans of other rows keep of a conditioning each; `Unlike` where that does not go together."""

    def on_i_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        """The output of block number `index`, all of its tokens computed."""
        return network.whole(index, call)

    def on_p_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        """The output of block number `index` with as little computed as the span's layout says."""
        return network.whole(index, call)

    def leave(self, network: NetworkCall) -> None:
        """The stream of tokens has left the span."""

    def kept(self) -> Iterator[SpanHistory | TokenHistory | AttentionContext]:
        """All that the span keeps between steps."""
        yield from ()

    def send_for(self, index: int) -> None:
        """Block number `index` will soon be called: what it needs and lies elsewhere should come."""


class _CachedSpan(WholeSpan):
    """What both kinds of span with a cache do on I-steps: every block runs whole, and the sum of their updates is
    kept.
    """

    def __init__(self, layout: SpanLayout, keeping: Keeping) -> None:
        super().__init__(layout, keeping)
        self.total: _Total | None = None  # of the I-step under way

    def begin(self) -> None:
        self.total = None

    def on_i_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        if self.total is None:
            self.total = _Total(self.layout.first, network.nothing_between_blocks)
        self.total.enter(self._streams(call.tokens, call.text), call.spec.in_place)
        output = self._refresh(index, call, network)
        self.total.leave(self._streams(call.output_tokens(output), call.output_text(output)), index)
        if index == self.layout.last:
            self.leave(network)
        return output

    def leave(self, network: NetworkCall) -> None:
        total, self.total = self.total, None
        if total is not None and (sums := total.settle()) is not None:
            self._keep(sums, total.last_block, network)

    def _streams(self, tokens: Tensor, text: Tensor | None) -> list[Tensor]:
        """The streams of tokens whose updates are kept, image first."""
        return [tokens] if text is None else [tokens, text]

    def _refresh(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        return network.whole(index, call)

    def _keep(self, updates: list[Tensor], last_block: int, network: NetworkCall) -> None:
        """Keep the updates (R, N, D) float32, one a stream. last_block: the last of the span that the host called."""
        raise NotImplementedError


class ReusedSpan(_CachedSpan):
    """Blocks that compute nothing on P-steps: the first to be called adds the whole span's forecast update to all
    tokens.
    """

    def __init__(self, layout: SpanLayout, keeping: Keeping) -> None:
        super().__init__(layout, keeping)
        self.histories: list[SpanHistory] = []  # one a stream
        self.added = False  # the forecast, in this call of the network

    def begin(self) -> None:
        super().begin()
        self.added = False

    def take(self, pieces: Sequence[Piece[ReusedSpan]]) -> None:
        same([len(piece.source.histories) for piece in pieces])
        for stream in range(len(pieces[0].source.histories)):
            self.histories.append(
                SpanHistory.assembled([piece.with_source(piece.source.histories[stream]) for piece in pieces])
            )

    def on_p_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        if not self.histories:
            return network.whole(index, call)
        network.strays()
        network.count(index, call, network.no_token(call))
        streams = self._streams(call.tokens, call.text)
        if not self.added:
            self.added = True
            correction = network.learned.correction(self.layout.first, self.layout.last)
            corrections = (
                correction,
                *[None] * (len(streams) - 1),
            )  # a second stream, of text, stays as it is forecast
            forecast = [
                history.add_forecast(x, network.tau, by) for history, x, by in zip(self.histories, streams, corrections)
            ]
            streams = [
                *forecast,
                *streams[len(forecast) :],
            ]  # text that the last block does not return is of no use to anyone
        return call.as_output(streams[0], streams[1] if len(streams) > 1 else None)

    def kept(self) -> Iterator[SpanHistory | TokenHistory | AttentionContext]:
        yield from self.histories

    def refresh(self, updates: list[Tensor], tau: float, spacing: float) -> None:
        """Keep the updates (R, N, D) float32, one a stream. spacing: refreshes no further apart in tau count as one."""
        keeping = self.keeping
        if not self.histories:
            self.histories = [SpanHistory(keeping.order, keeping.storage, keeping.reach) for _ in updates]
        for history, update in zip(self.histories, updates):
            history.refresh(update, tau, spacing)

    def _keep(self, updates: list[Tensor], last_block: int, network: NetworkCall) -> None:
        self.refresh(updates, network.tau, network.spacing)


class ComputedSpan(_CachedSpan):
    """Blocks that compute some image tokens on P-steps, the same ones in all of them; a second stream, of text, is
    always computed.
    """

    def __init__(self, layout: SpanLayout, keeping: Keeping) -> None:
        super().__init__(layout, keeping)
        self.history: TokenHistory | None = None
        self.last_block = layout.last  # the last of them that the host calls
        self.contexts: dict[int, AttentionContext] = {}  # by block
        self.chosen: _ChosenTokens | None = None  # of the P-step under way

    def begin(self) -> None:
        super().begin()
        self.chosen = None

    def take(self, pieces: Sequence[Piece[ComputedSpan]]) -> None:
        histories = [piece.source.history for piece in pieces]
        same([history is None for history in histories])
        same([list(piece.source.contexts) for piece in pieces])
        if histories[0] is not None:
            self.history = TokenHistory.assembled([piece.with_source(piece.source.history) for piece in pieces])
        self.last_block = pieces[0].source.last_block
        for block in pieces[0].source.contexts:
            self.contexts[block] = AttentionContext.assembled(
                [piece.with_source(piece.source.contexts[block]) for piece in pieces]
            )

    def on_p_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        if self.history is None:
            return network.whole(index, call)
        network.strays()
        return self._compute_some(index, call, network, self.history)

    def _compute_some(self, index: int, call: BlockCall, network: NetworkCall, history: TokenHistory) -> Any:
        if self.chosen is None:
            self.chosen = _ChosenTokens(call, network.chosen_tokens(self.layout, index, call))
        chosen = self.chosen
        network.count(index, call, chosen.compute)
        with network.attention.through(self._extending(index, chosen.compute, call.joint(chosen.compute), network)):
            output = network.timed(call.run_on, chosen.tokens, chosen.compute)
        chosen.tokens = call.output_tokens(output)
        if index < self.last_block:  # nothing looks at the stream before the span's end
            return call.as_output(call.tokens, call.output_text(output))
        self.chosen = None
        out = compute_or_reuse(
            chosen.x, partial(history.add_forecast, tau=network.tau), chosen.in_stream, chosen.tokens
        )
        history.refresh_some(chosen.update, network.tau, chosen.in_stream.flat)
        return call.as_output(out, call.output_text(output))

    def kept(self) -> Iterator[SpanHistory | TokenHistory | AttentionContext]:
        if self.history is not None:
            yield self.history
        yield from self.contexts.values()

    def send_for(self, index: int) -> None:
        if index in self.contexts:
            self.contexts[index].send_for()

    def _streams(self, tokens: Tensor, text: Tensor | None) -> list[Tensor]:
        return [tokens]

    def _refresh(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        if not self.keeping.key_refreshes:
            return network.whole(index, call)
        tap = Storing(self._context(index), call.n_image, call.n_image + call.n_text, network.tau, network.spacing)
        with network.attention.through(tap):
            return network.whole(index, call)

    def _keep(self, updates: list[Tensor], last_block: int, network: NetworkCall) -> None:
        keeping, self.last_block = self.keeping, last_block
        if self.history is None:
            self.history = TokenHistory(keeping.order, network.rows.text_first, keeping.storage, keeping.reach)
        self.history.refresh(updates[0], network.tau, network.spacing)

    def _extending(self, index: int, image: Any, joint: Any, network: NetworkCall) -> Extending | None:
        """image, joint: the tokens that are computed, as `Extending` has them."""
        if not self.keeping.key_refreshes:
            return None
        network.rows.send_for(index + 1)
        return Extending(self._context(index), image, joint, network.tau, network.spacing)

    def _context(self, index: int) -> AttentionContext:
        return self.contexts.setdefault(index, AttentionContext(self.keeping.storage, self.keeping.key_refreshes))


class _Total:
    """On an I-step: the sum of a span's updates, one a stream, gathered while its blocks run whole.

    Where a block is given the very tensor that the one before returned, the sum needs no arithmetic until the span's
    end.
    nothing_between_blocks: nothing writes into that tensor in between.
    """

    def __init__(self, first: int, nothing_between_blocks: bool) -> None:
        self.nothing_between_blocks = nothing_between_blocks
        self.start: list[Tensor] | None = None
        self.last: list[Tensor] = []
        self.last_block = first
        self.sums: list[Tensor] | None = None

    def enter(self, streams: list[Tensor], in_place: bool) -> None:
        if self.start is not None and all(a is b for a, b in zip(streams, self.last)):
            return
        self.settle()
        self.start = [stream.clone() for stream in streams] if in_place else streams

    def leave(self, streams: list[Tensor], block: int) -> None:
        self.last, self.last_block = streams, block
        if not self.nothing_between_blocks:
            self.settle()

    def settle(self) -> list[Tensor] | None:
        """Add what has gathered since `start`; returns the sums so far, float32."""
        if self.start is not None:
            part = [after.float() - before.float() for after, before in zip(self.last, self.start)]
            self.sums = part if self.sums is None else [a.add_(b) for a, b in zip(self.sums, part)]
            self.start = None
        return self.sums


class _ChosenTokens:
    """On a P-step: the tokens that are computed, on their way through a span's blocks.

    compute: the image tokens chosen. in_stream: those of the stream that are computed, the same or, in a joint stream,
    those and all text.
    """

    def __init__(self, call: BlockCall, compute: TokenIndex) -> None:
        self.x, self.compute = call.tokens, compute  # x: (R, N, D) the stream where the span begins
        self.in_stream = compute if call.spec.text else call.joint(compute)
        self.entered = self.in_stream.gather(self.x)
        self.tokens = self.entered.clone() if call.spec.in_place else self.entered  # as the next block is given them

    @property
    def update(self) -> Tensor:
        """What the blocks so far have added to the chosen tokens, (R, n, D) float32."""
        return self.tokens.float() - self.entered.float()


Span = WholeSpan | ReusedSpan | ComputedSpan


def make_spans(layouts: Sequence[SpanLayout], keeping: Keeping, computed: type[ComputedSpan]) -> tuple[Span, ...]:
    """One entry a block: the span that it is part of. computed: the class of those that compute some tokens."""
    kinds = {"whole": WholeSpan, "reuse": ReusedSpan, "tokens": computed}
    return tuple(
        span
        for layout in layouts
        for span in [kinds[layout.kind](layout, keeping)]
        for _ in range(layout.first, layout.last + 1)
    )
