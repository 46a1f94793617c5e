"""One call of the network under a session: every block's forward is swapped for one that computes or reuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks.attention import OVERRIDE_KEY
from ..blocks.call import BlockCall
from ..blocks.spec import BlockSpec
from ..blocks.token_index import TokenIndex
from ..predictor.predicted_choice import RelaxedPlanner
from ..training.mixed_tokens import MixedTokens, compute_and_mix
from .allocation import Unit
from .attention_context import AttentionContext, AttentionTap
from .block_runs import RunTotal, TokenRun
from .computed_tokens import DrawnTokens
from .forecast import RunHistory, TokenHistory
from .memory_budget import RowsShape
from .session import Session


class Forward:
    """Runs the blocks of one network call. rows: batch rows, conditioning by conditioning, `images` rows in each."""

    def __init__(
        self, session: Session, blocks: Sequence[tuple[nn.Module, BlockSpec]], key: Hashable, images: int, telescopes: bool, part: bool = False,
    ) -> None:
        self.session, self.evaluation, self.images, self.telescopes, self.part = session, session.current, images, telescopes, part
        self.modules, self.specs = zip(*blocks)
        self.rows = session.rows((key, telescopes))
        self.computes_all = self.evaluation.computes_all or not self.rows.units
        self.evaluation.misses += self.computes_all and not self.evaluation.computes_all
        self.saw_block = self.looked = False
        self.drawn: DrawnTokens | None = None   # if this call draws the evaluation's tokens
        self.has_reused = False                 # from here on the features are not the plain model's
        self.run_total: RunTotal | None = None
        self.token_run: TokenRun | None = None
        self.added: set[int] = set()            # runs whose forecast this call has added already
        self.index: dict[tuple[int, int | None, bool], TokenIndex] = {}
        self.no_token: dict[tuple[int, int], TokenIndex] = {}   # by rows and image tokens
        self.tap: AttentionTap | None = None
        self.override: Any = None               # of attention, by another than us
        self.block_seconds = 0.0

    def attention(self, function: Any, *args: Any, **kwargs: Any) -> Tensor:
        """An attention call of a block, on its way to `function`."""
        if self.override is not None:
            function = partial(self._overridden, function)
        return function(*args, **kwargs) if self.tap is None else self.tap(function, *args, **kwargs)

    def _overridden(self, function: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Through another's override, which gets copies: it may write into them."""
        return self.override(function, q, k.clone(), v.clone(), *args, **kwargs)

    def reached(self, transformer_options: dict[str, Any]) -> dict[str, Any]:
        """The options under which the blocks' attention calls reach `attention`."""
        self.override = transformer_options.get(OVERRIDE_KEY)
        return {**transformer_options, OVERRIDE_KEY: self.attention}

    def run_block(self, block_index: int, spec: BlockSpec, method: Any, compiled: Any, *args: Any, **kwargs: Any) -> Any:
        """In place of a block's forward: `method`, which `compiled` computes."""
        started, inside = time.perf_counter(), self.block_seconds
        call = BlockCall(spec, method, args, kwargs, compiled)
        if why := call.why_whole:
            self.session.note(f"some blocks ran whole, because {why}")
            return self._whole(block_index, call)
        if not self.rows.units:
            self.session.lay_out(self.rows, RowsShape.of(call, self.specs, together=self.telescopes))
        self.rows.text_first &= call.spec.text_first
        unit = self.rows.units[block_index]
        if not self.computes_all and not self.looked:
            self.looked = True
            self.session.planner.look(call, self.images, self.evaluation.tau, self.session.histories(self.rows))
        if self.run_total is not None and self.run_total.unit is not unit:
            self.close_run()
        if unit.kind == "whole":
            output = self._whole(block_index, call)
        elif self.computes_all:
            output = self._compute(block_index, unit, call)
        elif unit.kind == "reuse":
            output = self._reuse(block_index, unit, call)
        else:
            output = self._compute_some(block_index, unit, call)
        if self.session.device.type == "cpu":
            spent = self.block_seconds - inside
            self.evaluation.block_seconds[block_index] += spent
            self.evaluation.bookkeeping += time.perf_counter() - started - spent
        return output

    def close_run(self) -> None:
        """Store what a run of whole blocks added up to."""
        run, self.run_total = self.run_total, None
        if run is None or (totals := run.settle()) is None:
            return
        first, tau, spacing = run.unit.first, self.evaluation.tau, self.evaluation.spacing
        settings, storage = self.session.settings, self.session.storage
        self.rows.last_blocks[first] = run.last_block
        if run.unit.kind == "tokens":
            history = TokenHistory(settings.order, self.rows.text_first, storage, settings.reach)
            self.rows.tokens.setdefault(first, history).refresh(totals[0], tau, spacing)
            return
        histories = [RunHistory(settings.order, storage, settings.reach) for _ in totals]
        for history, total in zip(self.rows.runs.setdefault(first, histories), totals):
            history.refresh(total, tau, spacing)

    def _whole(self, block_index: int, call: BlockCall) -> Any:
        self._count(block_index, call, None)
        repair = self.session.learned.repair
        if repair is None or not self.has_reused:
            return self._timed(call.run)
        with repair.added_to(block_index, self.modules[block_index]):
            return self._timed(call.run)

    def _compute(self, block_index: int, unit: Unit, call: BlockCall) -> Any:
        """A cacheable block on an I-step: run it whole and keep its update."""
        computes_some = unit.kind == "tokens"   # then a second stream, of text, is always computed, and only the first is cached

        def streams(tokens: Tensor, text: Tensor | None) -> list[Tensor]:
            return [tokens] if computes_some else _streams(tokens, text)

        if self.run_total is None:
            self.run_total = RunTotal(unit, self.telescopes)
        self.run_total.enter(streams(call.tokens, call.text), call.spec.in_place)
        with self._tapped(block_index, call.n_image, call.n_image + call.n_text) if computes_some else nullcontext():
            output = self._whole(block_index, call)
        self.run_total.leave(streams(call.output_tokens(output), call.output_text(output)), block_index)
        if block_index == unit.last:
            self.close_run()
        return output

    def _reuse(self, block_index: int, unit: Unit, call: BlockCall) -> Any:
        """A block of a run that computes nothing: the first to be called adds the whole run's forecast."""
        if unit.first not in self.rows.runs:
            return self._whole(block_index, call)
        self.has_reused = True
        self._count(block_index, call, self._no_token(call.tokens.shape[0], call.n_image))
        streams = _streams(call.tokens, call.text)
        if unit.first not in self.added:
            self.added.add(unit.first)
            histories, learned = self.rows.runs[unit.first], self.session.learned.forecasts.get((unit.first, unit.last))
            correct = (learned, *[None] * (len(streams) - 1))   # a second stream, of text, stays as it is forecast
            forecast = [history.add_forecast(x, self.evaluation.tau, by) for history, x, by in zip(histories, streams, correct)]
            streams = [*forecast, *streams[len(forecast) :]]    # text that the last block does not return is of no use to anyone
        return call.as_output(streams[0], streams[1] if len(streams) > 1 else None)

    def _compute_some(self, block_index: int, unit: Unit, call: BlockCall) -> Any:
        history = self.rows.tokens.get(unit.first)
        if history is None:
            return self._whole(block_index, call)
        self.has_reused = True
        if isinstance(self.session.planner, RelaxedPlanner):
            return self._compute_weighted(block_index, call, history, self.session.planner)
        if self.token_run is None or self.token_run.unit is not unit:
            self.token_run = self._token_run(block_index, unit, call)
        run = self.token_run
        self._count(block_index, call, run.compute)
        with self._tapped(block_index, run.compute, call.joint(run.compute)):
            output = self._timed(call.run_on, run.tokens, run.compute)
        run.tokens = call.output_tokens(output)
        if block_index < self.rows.last_blocks[unit.first]:     # nothing looks at the stream before the run's end
            return call.as_output(call.tokens, call.output_text(output))
        self.token_run = None
        tokens, update = run.leave(partial(history.add_forecast, tau=self.evaluation.tau))
        history.refresh_some(update, self.evaluation.tau, run.in_stream.flat)
        return call.as_output(tokens, call.output_text(output))

    def _token_run(self, block_index: int, unit: Unit, call: BlockCall) -> TokenRun:
        compute = self._compute_index(block_index, call)
        in_stream = compute if call.spec.text else call.joint(compute)   # a joint stream's text tokens are always computed
        return TokenRun(unit, call.tokens, compute, in_stream, call.spec.in_place)

    def _compute_weighted(self, block_index: int, call: BlockCall, history: TokenHistory, planner: RelaxedPlanner) -> Any:
        """For training: the block runs whole, and its own outputs and the reused ones are mixed by the planner's weights."""
        self._count(block_index, call, None)
        alike = call.tokens.shape[0] // self.images
        mix = MixedTokens(*[each.repeat(alike, 1) for each in planner.weights(block_index, self.images, call.n_image)])
        joint = mix.with_text(call.n_text, call.spec.text_first) if call.n_text else mix
        in_stream = mix if call.spec.text else joint
        with self._tapped(block_index, mix, joint):
            output, update = compute_and_mix(call, partial(history.add_forecast, tau=self.evaluation.tau), in_stream)
        history.refresh_some(update, self.evaluation.tau, in_stream.flat)
        return output

    def _compute_index(self, block_index: int, call: BlockCall) -> TokenIndex:
        alike = call.wants_rows_alike
        key = (self.rows.units[block_index].tokens, block_index if self.session.planner.per_block else None, alike)
        if key not in self.index:
            self.index[key] = self.session.compute_index(
                self.rows, call.tokens.shape[0], self.images, block_index, call.tokens.device, alike,
            )
        return self.index[key]

    def _no_token(self, rows: int, n_image: int) -> TokenIndex:
        if (rows, n_image) not in self.no_token:
            self.no_token[rows, n_image] = TokenIndex(torch.empty(rows, 0, dtype=torch.long), n_image)
        return self.no_token[rows, n_image]

    @contextmanager
    def _tapped(self, block_index: int, image: TokenIndex | MixedTokens | int, joint: TokenIndex | MixedTokens | int) -> Iterator[None]:
        """image, joint: as AttentionTap has them."""
        if refreshes := self.session.settings.key_refreshes:
            contexts = self.rows.contexts
            if not isinstance(image, int) and block_index + 1 in contexts:
                contexts[block_index + 1].send_for()
            context = contexts.setdefault(block_index, AttentionContext(self.session.storage, refreshes))
            self.tap = AttentionTap(context, image, joint, self.evaluation.tau, self.evaluation.spacing)
        try:
            yield
        finally:
            if self.tap is not None:
                self.block_seconds -= self.tap.seconds
            self.tap = None

    def _timed(self, function: Any, *args: Any) -> Any:
        started = time.perf_counter()
        output = function(*args)
        self.block_seconds += time.perf_counter() - started
        return output

    def _count(self, block_index: int, call: BlockCall, compute: TokenIndex | None) -> None:
        """compute: the image tokens computed, with all text tokens unless there are none of either; None: all."""
        evaluation, n_rows, n_image = self.evaluation, call.tokens.shape[0], call.n_image
        image = n_image if compute is None else compute.count
        evaluation.available += n_rows * (n_image + call.n_text)
        evaluation.computed[block_index] += n_rows * (image + (call.n_text if image else 0))
        if not self.saw_block:
            self.saw_block = True
            evaluation.rows += n_rows
            if not self.part and (evaluation.drawn is None or n_image > evaluation.drawn.n_tokens):
                evaluation.drawn = self.drawn = DrawnTokens(self.images, n_image, call.tokens.device)
        if self.drawn is not None and evaluation.drawn is self.drawn:
            self.drawn.add(block_index, compute)


def _streams(tokens: Tensor, text: Tensor | None) -> list[Tensor]:
    return [tokens] if text is None else [tokens, text]


@contextmanager
def cached_blocks(
    session: Session, blocks: Sequence[tuple[nn.Module, BlockSpec]], *, key: Hashable, images: int, telescopes: bool,
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda method: method, part: bool = False,
) -> Iterator[Forward]:
    """Swap the blocks' forwards for the session's, for one call of the network, and put them back.

    key: names the batch rows of this call (see `Session.rows`). images: rows per conditioning. telescopes: nothing but
    the blocks touches the token stream between them. compiled: from a block's own forward to what computes the same. part: the
    call is given a part of the latent, so that its tokens have no place among the report's counts. The attention calls of the blocks
    must reach `Forward.attention` where `Session.taps_attention` (see `Forward.reached`).
    """
    forward = Forward(session, blocks, key, images, telescopes, part)
    own = [module.__dict__.get("forward") for module, _ in blocks]
    try:
        for index, (module, spec) in enumerate(blocks):
            # past torch's own __setattr__, which takes a tenth of a small model's P-step
            module.__dict__["forward"] = partial(forward.run_block, index, spec, module.forward, compiled(module.forward))
        yield forward
        forward.close_run()
    finally:
        for (module, _), previous in zip(blocks, own):
            del module.__dict__["forward"]
            if previous is not None:
                module.forward = previous
