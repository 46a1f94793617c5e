"""One call of the network under a session, in which every block's forward is replaced by one that its span runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks.call import BlockCall
from ..blocks.misfit import Misfit
from ..blocks.spec import BlockSpec
from ..blocks.swapped_forwards import Forward, swapped_forwards, uncompiled
from ..blocks.token_index import TokenIndex
from ..words.message import say
from .attention_hook import AttentionHook
from .learned_parts import LearnedParts
from .log import CallCount
from .memory_budget import RowsShape
from .recording import Recording
from .session import Session
from .span_layout import SpanLayout
from .spans import Span


class NetworkCall:
    """One call of the network: runs its blocks, and holds what their spans share.

    key: names the call's batch rows, which are ordered by conditioning, with `images` rows in each.
    nothing_between_blocks: whether nothing but the blocks touches the tokens between blocks.
    partial_latent: whether the call sees only part of the latent.
    conditionings, latent, recording: as in `cached_blocks`.
    """

    def __init__(
        self,
        session: Session,
        blocks: Sequence[tuple[nn.Module, BlockSpec]],
        key: Hashable,
        images: int,
        nothing_between_blocks: bool,
        *,
        conditionings: Sequence[Hashable] = (None,),
        partial_latent: bool = False,
        latent: Tensor | None = None,
        recording: Recording | None = None,
    ) -> None:
        self.session, self.images, self.nothing_between_blocks = session, images, nothing_between_blocks
        self.modules = tuple(module for module, _ in blocks)
        self.specs = tuple(spec for _, spec in blocks)
        self.evaluation = session.evaluation_under_way
        self.planner = session.planner
        part = latent if partial_latent else None
        self.rows = session.rows((key, nothing_between_blocks), tuple(conditionings), part)
        self.rows.begin()
        # on a P-step too, where nothing has been kept for these rows yet (a miss)
        self.computes_all = self.evaluation.computes_all or not self.rows.spans
        if self.computes_all and not self.evaluation.computes_all:
            self.evaluation.misses += 1
        self.attention = AttentionHook()  # in the blocks' attention calls
        self.recording = recording or Recording()
        self.called: set[int] = set()  # the blocks, by their numbers
        self.span: Span | None = None  # that the tokens are in
        self.looked = False  # whether the planner has seen the input of the first block
        self.diverged = False  # whether the features are no longer the plain model's
        self.indices: dict[tuple[int, int | None, bool], TokenIndex] = {}  # by tokens, block and whether rows are alike
        self.none: dict[tuple[int, int], TokenIndex] = {}  # empty indices, by rows and image tokens
        self.counted = CallCount(self.evaluation, images, partial_latent)
        self.block_seconds = 0.0

    @property
    def tau(self) -> float:
        return self.evaluation.tau

    @property
    def spacing(self) -> float:
        """Refreshes closer than this in tau count as one."""
        return self.evaluation.spacing

    @property
    def learned(self) -> LearnedParts:
        return self.session.learned

    def run_block(self, index: int, spec: BlockSpec, method: Any, compiled: Any, *args: Any, **kwargs: Any) -> Any:
        """Replaces the forward of block number `index`. method: its own forward. compiled: computes the same."""
        if index in self.called:
            raise Misfit(f"{type(self.modules[index]).__name__} is called twice in one call of the network")
        self.called.add(index)
        with self.recording.paused():
            return self._run_block(index, spec, method, compiled, args, kwargs)

    def _run_block(
        self, index: int, spec: BlockSpec, method: Any, compiled: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        started, inside = time.perf_counter(), self.block_seconds - self.attention.seconds
        call = BlockCall(spec, method, args, kwargs, compiled)
        if why := call.why_whole:
            self.session.log.note(
                say("note_some_blocks_whole", "some blocks were computed in full, because {why}", why=why)
            )
            return self.whole(index, call)
        span = self._enter(index, call)
        output = span.on_i_step(index, call, self) if self.computes_all else span.on_p_step(index, call, self)
        if self.session.device.type == "cpu":
            spent = self.block_seconds - self.attention.seconds - inside
            self.evaluation.block_seconds[index] += spent
            self.evaluation.bookkeeping += time.perf_counter() - started - spent
        return output

    def _enter(self, index: int, call: BlockCall) -> Span:
        """The span of the block, after leaving the span before it."""
        if not self.rows.spans:
            self.session.store.lay_out(
                self.rows, RowsShape.of(call, self.specs, nothing_between_blocks=self.nothing_between_blocks)
            )
        self.rows.text_first &= call.spec.text_first
        if not self.computes_all and not self.looked:
            self.looked = True
            self.planner.look(call, self.images, self.tau, self.session.store.histories(self.rows))
        span = self.rows.spans[index]
        if self.span is not span:
            self.end()
            self.span = span
        return span

    def end(self) -> None:
        """Leave the current span."""
        if self.span is not None:
            self.span.leave(self)
            self.span = None

    def whole(self, index: int, call: BlockCall) -> Any:
        """The output of a block that computes all its tokens, with learned repairs if its input has diverged."""
        self.count(index, call, None)
        if not self.diverged:
            return self.timed(call.run)
        with self.learned.repaired(index, self.modules[index]):
            return self.timed(call.run)

    def mark_diverged(self) -> None:
        """From here on the features differ from the plain model's, since something was reused."""
        self.diverged = True

    def chosen_tokens(self, span: SpanLayout, index: int, call: BlockCall) -> TokenIndex:
        """The image tokens that block number `index` computes: the same ones in all rows of an image."""
        own = index if self.planner.per_block else None
        alike = call.wants_rows_alike
        key = (span.tokens, own, alike)
        if key not in self.indices:
            chosen = self._ranking(span, index, own)[:, : span.tokens].to(call.tokens.device).sort(dim=1).values
            if alike:
                chosen = chosen[:1].expand(self.images, -1)
            repeated = chosen.repeat(call.tokens.shape[0] // self.images, 1)
            self.indices[key] = TokenIndex(repeated, self.rows.n_tokens, alike or self.images == 1)
        return self.indices[key]

    def _ranking(self, span: SpanLayout, index: int, own: int | None) -> torch.Tensor:
        """The planner's ranking (images, N), made once per evaluation, or once per block.

        own: the block's number, if blocks have rankings of their own.
        """
        rankings, n_tokens = self.evaluation.rankings, self.rows.n_tokens
        key = (self.images, n_tokens, own)
        if key not in rankings:
            max_count = (
                span.tokens
                if own is not None
                else max(each.layout.tokens for each in self.rows.spans if each.layout.kind == "tokens")
            )
            histories = self.session.store.histories(self.rows)
            rankings[key] = self.planner.ranking(index, self.images, n_tokens, max_count, self.tau, histories)
        return rankings[key]

    def no_token(self, call: BlockCall) -> TokenIndex:
        """The empty index of a block that computes no token, shared by all blocks with as many rows and tokens."""
        rows, n_image = call.tokens.shape[0], call.n_image
        if (rows, n_image) not in self.none:
            self.none[rows, n_image] = TokenIndex(torch.empty(rows, 0, dtype=torch.long), n_image)
        return self.none[rows, n_image]

    def count(self, index: int, call: BlockCall, compute: TokenIndex | None) -> None:
        """Count a block's tokens for the report, as in `CallCount.add`."""
        self.counted.add(index, call, compute)

    def timed(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of `function`, whose time is counted as the block's own."""
        started = time.perf_counter()
        with self.recording.resumed():
            output = function(*args)
        self.block_seconds += time.perf_counter() - started
        return output


@contextmanager
def cached_blocks(
    session: Session,
    blocks: Sequence[tuple[nn.Module, BlockSpec]],
    *,
    key: Hashable,
    images: int,
    nothing_between_blocks: bool,
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda method: method,
    conditionings: Sequence[Hashable] = (None,),
    partial_latent: bool = False,
    latent: Tensor | None = None,
    recording: Recording | None = None,
) -> Generator[NetworkCall, None, None]:
    """While active, for one call of the network, the blocks' forwards are replaced by the session's.

    If the session `keeps_keys`, the blocks' attention calls must reach `NetworkCall.attention`
    (see `AttentionHook.in_options`).

    key, conditionings: name the batch rows of this call (see `Session.rows`), one conditioning after the other.
    images: rows per conditioning.
    nothing_between_blocks: nothing but the blocks touches the token stream between blocks.
    compiled: from a block's own forward to a function that computes the same.
    partial_latent: the call sees only part of the latent, so the report does not show its tokens.
    latent: (R, C, ...), the input of the call, from which it is seen whether a part is the same as before.
    recording: the host's, of what blocks allocate.
    """
    call = NetworkCall(
        session,
        blocks,
        key,
        images,
        nothing_between_blocks,
        conditionings=conditionings,
        partial_latent=partial_latent,
        latent=latent,
        recording=recording,
    )

    def swap(index: int, block: nn.Module, forward: Forward) -> Forward:
        plain = uncompiled(block)
        if plain is block:
            return partial(call.run_block, index, call.specs[index], forward, compiled(forward))
        if session.keeps_keys:  # what has been compiled would not ask for the attention hook
            session.log.note(
                say(
                    "note_uncompiled",
                    "blocks wrapped by torch.compile ran uncompiled, because computed tokens attend to all tokens",
                )
            )
            forward = plain.forward
        return partial(call.run_block, index, call.specs[index], plain.forward, forward)

    with swapped_forwards(call.modules, swap):
        yield call
        call.end()
