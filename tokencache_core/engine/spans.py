"""Spans: groups of neighbouring blocks that do the same on P-steps. This file has the paper's equation, and what a
block does on I-steps and on P-steps.

The sum of what a span's blocks add to a token is treated as one *update*, since the forecast of a sum is the sum of the
forecasts. So a span gathers, forecasts and scatters once, however many blocks it has, and keeps one history.
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
from .fitted_term import FittedTerm
from .forecast import SpanHistory, TokenHistory
from .pieces import Piece, same
from .span_layout import Kind, SpanLayout
from .storage import Storage

if TYPE_CHECKING:
    from .network_call import NetworkCall


def compute_or_reuse(
    x: Tensor, add_cached_update: Callable[[Tensor], Tensor], compute: TokenIndex, computed: Tensor
) -> Tensor:
    """A block, or a span of blocks, on a P-step (TokenCache, arXiv 2409.18523, section 3):

        x^l_n = x^{l-1}_n + a_n f^l_n(x^{l-1}) + (1 - a_n) cached_n

    l counts spans. f sees the other tokens through their cached keys and values alone.

    x: (R, N, D), the input, x^{l-1}.
    add_cached_update: from x to x + cached, the reused or forecast updates: a new tensor.
    compute: the tokens with a = 1.
    computed: (R, n, D), the blocks' output for these tokens, x + f.
    Returns (R, N, D), x^l.
    """
    out = add_cached_update(x)  # a = 0: input + cached update
    return compute.scatter_(out, computed)  # a = 1: the blocks' own output


@dataclass(frozen=True)
class Keeping:
    """How spans store their caches.

    order, reach: of forecasts, as in `CacheSettings`.
    fitted: of the run, as in `SpanHistory`.
    key_refreshes: number of I-steps whose keys and values are kept; 0: none.
    storage: where tensors are kept, and in what form.
    """

    order: int
    reach: float
    fitted: FittedTerm | None
    key_refreshes: int
    storage: Storage


class WholeSpan:
    """A span that computes all its tokens on every step, and the interface of the other kinds of span."""

    def __init__(self, layout: SpanLayout, keeping: Keeping) -> None:
        self.layout, self.keeping = layout, keeping

    def begin(self) -> None:
        """Called at the start of each call of the network; discards what a failed call may have left unfinished."""

    def take(self, pieces: Sequence[Piece[Any]]) -> None:
        """Take over what spans of other rows keep, from each the rows of one conditioning; `Unlike` if they do not fit
        together.
        """

    def on_i_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        """The output of block number `index`, with all its tokens computed."""
        return network.whole(index, call)

    def on_p_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        """The output of block number `index`, with only the tokens computed that the span's layout asks for."""
        return network.whole(index, call)

    def leave(self, network: NetworkCall) -> None:
        """Called when the token stream has left the span."""

    def kept(self) -> Iterator[SpanHistory | TokenHistory | AttentionContext]:
        """Everything that the span keeps between steps."""
        yield from ()

    def prefetch(self, index: int) -> None:
        """Start copying what block number `index` needs to its device, since the block will be called soon."""


class _CachedSpan(WholeSpan):
    """The base of spans with a cache: on I-steps every block runs in full, and the sum of the updates is kept."""

    def __init__(self, layout: SpanLayout, keeping: Keeping) -> None:
        super().__init__(layout, keeping)
        self.total: _TotalUpdate | None = None  # of the current I-step

    def begin(self) -> None:
        self.total = None

    def on_i_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        if self.total is None:
            self.total = _TotalUpdate(self.layout.first, network.nothing_between_blocks)
        self.total.enter(self._streams(call.tokens, call.text), call.spec.in_place)
        output = self._run_whole(index, call, network)
        self.total.leave(self._streams(call.output_tokens(output), call.output_text(output)), index)
        if index == self.layout.last:
            self.leave(network)
        return output

    def leave(self, network: NetworkCall) -> None:
        total, self.total = self.total, None
        if total is not None and (sums := total.sum_up()) is not None:
            self._keep(sums, total.last_block, network)

    def _streams(self, tokens: Tensor, text: Tensor | None) -> list[Tensor]:
        """The token streams whose updates are kept, the image's first."""
        return [tokens] if text is None else [tokens, text]

    def _run_whole(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        return network.whole(index, call)

    def _keep(self, updates: list[Tensor], last_block: int, network: NetworkCall) -> None:
        """Keep the updates, (R, N, D) float32 for each stream. last_block: the last block that the host called."""
        raise NotImplementedError


class ReusedSpan(_CachedSpan):
    """A span that computes nothing on P-steps: its first block adds the whole span's forecast update to all tokens."""

    def __init__(self, layout: SpanLayout, keeping: Keeping) -> None:
        super().__init__(layout, keeping)
        self.histories: list[SpanHistory] = []  # one per stream
        self.added = False  # whether this call of the network has added the forecast

    def begin(self) -> None:
        super().begin()
        self.added = False

    def take(self, pieces: Sequence[Piece[Any]]) -> None:
        same([len(piece.source.histories) for piece in pieces])
        for stream in range(len(pieces[0].source.histories)):
            self.histories.append(
                SpanHistory.assembled([piece.with_source(piece.source.histories[stream]) for piece in pieces])
            )

    def on_p_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        if not self.histories:
            return network.whole(index, call)
        network.mark_diverged()
        network.count(index, call, network.no_token(call))
        streams = self._streams(call.tokens, call.text)
        if not self.added:
            self.added = True
            correction = network.learned.correction(self.layout.first, self.layout.last)
            corrections = (correction, *[None] * (len(streams) - 1))  # the forecast of a text stream is not corrected
            forecast = [
                history.add_forecast(x, network.tau, by) for history, x, by in zip(self.histories, streams, corrections)
            ]
            streams = [*forecast, *streams[len(forecast) :]]  # a text stream has no history if no block returns it
        return call.as_output(streams[0], streams[1] if len(streams) > 1 else None)

    def kept(self) -> Iterator[SpanHistory | TokenHistory | AttentionContext]:
        yield from self.histories

    def refresh(self, updates: list[Tensor], tau: float, spacing: float) -> None:
        """Keep the updates (R, N, D) float32, one a stream. spacing: refreshes no further apart in tau count as one."""
        keeping = self.keeping
        if not self.histories:
            self.histories = [
                SpanHistory(keeping.order, keeping.storage, keeping.reach, keeping.fitted) for _ in updates
            ]
        for history, update in zip(self.histories, updates):
            history.refresh(update, tau, spacing)

    def _keep(self, updates: list[Tensor], last_block: int, network: NetworkCall) -> None:
        self.refresh(updates, network.tau, network.spacing)


class ComputedSpan(_CachedSpan):
    """A span that computes some image tokens on P-steps, the same ones in all its blocks. A second stream, of text, is
    always computed.
    """

    def __init__(self, layout: SpanLayout, keeping: Keeping) -> None:
        super().__init__(layout, keeping)
        self.history: TokenHistory | None = None
        self.last_block = layout.last  # the last block that the host calls
        self.contexts: dict[int, AttentionContext] = {}  # by block
        self.chosen: _ChosenTokens | None = None  # of the current P-step

    def begin(self) -> None:
        super().begin()
        self.chosen = None

    def take(self, pieces: Sequence[Piece[Any]]) -> None:
        histories: list[TokenHistory | None] = [piece.source.history for piece in pieces]
        same([history is None for history in histories])
        same([list(piece.source.contexts) for piece in pieces])
        if histories[0] is not None:
            self.history = TokenHistory.assembled(
                [piece.with_source(history) for piece, history in zip(pieces, histories) if history is not None]
            )
        self.last_block = pieces[0].source.last_block
        for block in pieces[0].source.contexts:
            self.contexts[block] = AttentionContext.assembled(
                [piece.with_source(piece.source.contexts[block]) for piece in pieces]
            )

    def on_p_step(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        if self.history is None:
            return network.whole(index, call)
        network.mark_diverged()
        return self._compute_some(index, call, network, self.history)

    def _compute_some(self, index: int, call: BlockCall, network: NetworkCall, history: TokenHistory) -> Any:
        if self.chosen is None:
            self.chosen = _ChosenTokens(call, network.chosen_tokens(self.layout, index, call))
        chosen = self.chosen
        network.count(index, call, chosen.compute)
        with network.attention.through(self._extending(index, chosen.compute, call.joint(chosen.compute), network)):
            output = network.timed(call.run_on, chosen.tokens, chosen.compute)
        chosen.tokens = call.output_tokens(output)
        if index < self.last_block:  # nothing reads the stream before the end of the span
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

    def prefetch(self, index: int) -> None:
        if index in self.contexts:
            self.contexts[index].prefetch()

    def _streams(self, tokens: Tensor, text: Tensor | None) -> list[Tensor]:
        return [tokens]

    def _run_whole(self, index: int, call: BlockCall, network: NetworkCall) -> Any:
        if not self.keeping.key_refreshes:
            return network.whole(index, call)
        rows, joint = call.tokens.shape[0], call.n_image + call.n_text
        tap = Storing(self._context(index), rows, call.n_image, joint, network.tau, network.spacing, network.recording)
        with network.attention.through(tap):
            return network.whole(index, call)

    def _keep(self, updates: list[Tensor], last_block: int, network: NetworkCall) -> None:
        keeping, self.last_block = self.keeping, last_block
        if self.history is None:
            self.history = TokenHistory(
                keeping.order, network.rows.text_first, keeping.storage, keeping.reach, keeping.fitted
            )
        self.history.refresh(updates[0], network.tau, network.spacing)

    def _extending(self, index: int, image: Any, joint: Any, network: NetworkCall) -> Extending | None:
        """The attention tap of block number `index` on a P-step. image, joint: as in `Extending`."""
        if not self.keeping.key_refreshes:
            return None
        network.rows.prefetch(index + 1)
        return Extending(self._context(index), image, joint, network.tau, network.spacing, network.recording)

    def _context(self, index: int) -> AttentionContext:
        return self.contexts.setdefault(index, AttentionContext(self.keeping.storage, self.keeping.key_refreshes))


class _TotalUpdate:
    """The sum of a span's updates on an I-step, one per stream, accumulated while its blocks run in full.

    While each block receives the very tensor that the previous one returned, nothing is computed until the end of the
    span.

    first: the span's first block.
    nothing_between_blocks: nothing writes into these tensors between blocks.
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
        self.sum_up()
        self.start = [stream.clone() for stream in streams] if in_place else streams

    def leave(self, streams: list[Tensor], block: int) -> None:
        self.last, self.last_block = streams, block
        if not self.nothing_between_blocks:
            self.sum_up()

    def sum_up(self) -> list[Tensor] | None:
        """Add the update since `start` to the sums; returns them, float32, or None if no block has run."""
        if self.start is not None:
            part = [after.float() - before.float() for after, before in zip(self.last, self.start)]
            self.sums = part if self.sums is None else [a.add_(b) for a, b in zip(self.sums, part)]
            self.start = None
        return self.sums


class _ChosenTokens:
    """The tokens that are computed on a P-step, as they pass through the blocks of a span.

    compute: the chosen image tokens.
    in_stream: the computed tokens of the stream: the same, or in a joint stream these and all text tokens.
    """

    def __init__(self, call: BlockCall, compute: TokenIndex) -> None:
        self.x, self.compute = call.tokens, compute  # x: (R, N, D), the stream at the beginning of the span
        self.in_stream = compute if call.spec.text else call.joint(compute)
        self.entered = self.in_stream.gather(self.x)
        self.tokens = self.entered.clone() if call.spec.in_place else self.entered  # input of the next block

    @property
    def update(self) -> Tensor:
        """What the blocks have added to the chosen tokens so far, (R, n, D) float32."""
        return self.tokens.float() - self.entered.float()


Span = WholeSpan | ReusedSpan | ComputedSpan


def make_spans(layouts: Sequence[SpanLayout], keeping: Keeping, computed: type[ComputedSpan]) -> tuple[Span, ...]:
    """For each block, the span that it is part of. computed: the class of spans that compute some tokens."""
    kinds: dict[Kind, type[Span]] = {"whole": WholeSpan, "reuse": ReusedSpan, "tokens": computed}
    return tuple(
        span
        for layout in layouts
        for span in [kinds[layout.kind](layout, keeping)]
        for _ in range(layout.first, layout.last + 1)
    )
