"""The cache store: what a run keeps between its steps for each set of batch rows, within a memory budget."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from torch import Tensor

from ..settings import CacheSettings
from .allocation import tokens_per_block
from .fitted_term import FittedTerm
from .forecast import TokenHistory
from .memory_budget import CacheMemory, MemoryBudget, RowsShape
from .pieces import Piece, Unlike
from .span_layout import SpanLayout, span_layouts
from .spans import ComputedSpan, Keeping, ReusedSpan, Span, make_spans
from .storage import Form, Storage
from .token_choice import Planner

_MANY = 1_000_000  # enough tokens that no allowed share rounds to zero
_RATE_BLOCKS = 4  # spans whose change rates a planner reads; reading all of them would cost a tenth of a P-step
MOST_CHANGE = 3.0  # largest change of a part of the latent that stays in place, in units of the whole latent's change


class Rows:
    """What one set of batch rows keeps between the steps of a run."""

    def __init__(self) -> None:
        self.shape: RowsShape | None = None
        self.spans: tuple[Span, ...] = ()  # one entry per block; empty until the first I-step shows the token count
        self.text_first = True  # in joint streams
        # the part of the latent, and the whole, last seen
        self.seen: tuple[Tensor | None, Tensor | None] = (None, None)

    @property
    def n_tokens(self) -> int:
        """Image tokens per row; 0: not known yet."""
        return 0 if self.shape is None else self.shape.image

    @property
    def distinct_spans(self) -> tuple[Span, ...]:
        """Every span once, in order."""
        return tuple(dict.fromkeys(self.spans))

    @property
    def histories(self) -> dict[int, TokenHistory]:
        """The histories of the spans that compute some tokens, by first block."""
        return {
            span.layout.first: span.history
            for span in self.distinct_spans
            if isinstance(span, ComputedSpan) and span.history is not None
        }

    @property
    def reused(self) -> list[ReusedSpan]:
        """The spans that compute nothing on P-steps and already have an update."""
        return [span for span in self.distinct_spans if isinstance(span, ReusedSpan) and span.histories]

    @property
    def memory_bytes(self) -> int:
        return sum(kept.memory_bytes for span in self.distinct_spans for kept in span.kept())

    @property
    def key_bytes(self) -> int:
        """The part of memory_bytes taken by keys and values."""
        spans = (span for span in self.distinct_spans if isinstance(span, ComputedSpan))
        return sum(context.memory_bytes for span in spans for context in span.contexts.values())

    def begin(self) -> None:
        """Called at the start of each call of the network."""
        for span in self.distinct_spans:
            span.begin()

    def prefetch(self, block: int) -> None:
        """Prefetch what block number `block` needs, if there is such a block."""
        if block < len(self.spans):
            self.spans[block].prefetch(block)

    def to_current_form(self) -> None:
        """Convert everything to the storage's current form."""
        for span in self.distinct_spans:
            for kept in span.kept():
                kept.to_current_form()

    def is_elsewhere(self, latent: Tensor, whole: Tensor | None) -> bool:
        """Whether `latent` (R, C, ...), a part of `whole` (B, C, ...), shows another place than when these rows were
        last seen.

        It does if it has changed by far more than the whole latent since then.
        """
        (before, whole_before), self.seen = self.seen, (latent, whole)
        if before is None or whole is None or whole_before is None or not self.spans:
            return False
        if before.shape != latent.shape or whole.shape != whole_before.shape:
            return True
        change = (latent - before).flatten(1).square().mean(dim=1).max().sqrt()
        return bool(change > MOST_CHANGE * (whole - whole_before).square().mean().sqrt())

    @classmethod
    def assembled(cls, pieces: Sequence[Piece[Rows]], computed: type[ComputedSpan]) -> Rows | None:
        """Rows that take over one conditioning from each of several others; None if these do not fit together."""
        first = pieces[0].source
        layouts = [span.layout for span in first.distinct_spans]
        if any([span.layout for span in piece.source.distinct_spans] != layouts for piece in pieces):
            return None
        rows = cls()
        assert first.shape is not None
        rows.shape = replace(
            first.shape, rows=sum(piece.count(piece.source.shape.rows) for piece in pieces if piece.source.shape)
        )
        rows.text_first = all(piece.source.text_first for piece in pieces)
        rows.spans = make_spans(layouts, first.spans[0].keeping, computed)
        try:
            for span in rows.distinct_spans:
                span.take([piece.with_source(piece.source.spans[span.layout.first]) for piece in pieces])
        except Unlike:
            return None
        return rows

    def forget(self) -> None:
        """Discard everything but the shape, so that the next evaluation computes everything, whatever its kind."""
        self.spans = ()


class CacheStore:
    """The caches of all sets of rows of one run.

    streams: `BlockSpec.stream` of every block.
    shares: the learned share of its tokens that each cacheable block computes; empty: the settings decide.
    i_steps: the largest number of I-steps that the run may have.
    budget: the cache's memory budget.
    """

    def __init__(
        self,
        settings: CacheSettings,
        streams: tuple[str, ...],
        planner: Planner,
        *,
        shares: tuple[float, ...] = (),
        i_steps: int,
        budget: MemoryBudget = MemoryBudget(),
    ) -> None:
        self.settings, self.streams, self.planner, self.shares = settings, streams, planner, shares
        self.i_steps, self.budget = i_steps, budget
        self.storage = Storage()
        self.fitted = FittedTerm(settings.order, settings.reach) if settings.takes_fitted_term else None
        self.keeping = Keeping(settings.order, settings.reach, self.fitted, settings.key_refreshes, self.storage)
        self.memory = CacheMemory(budget, min(settings.update_refreshes, i_steps), min(settings.key_refreshes, i_steps))
        self.rows_by_key: dict[tuple[Hashable, tuple[Hashable, ...]], Rows] = {}
        self.used: set[Hashable] = set()  # names used in the current, or else the last, evaluation
        self.memory_bytes = 0  # the most that was kept at one time
        self.evaluations = 0
        # whether any block computes only some of its tokens, and these attend to the keys and values of all
        self.keeps_keys = settings.key_refreshes > 0 and any(0 < count < _MANY for count in self._counts(_MANY))

    def emptied(self, settings: CacheSettings, streams: tuple[str, ...]) -> CacheStore:
        """Free this store; returns a new one in its place, for a run that continues with other settings or streams."""
        self.rows_by_key.clear()
        self.storage.release()
        store = CacheStore(settings, streams, self.planner, i_steps=self.i_steps, budget=self.budget)
        store.memory_bytes, store.memory.tell = self.memory_bytes, self.memory.tell
        return store

    def begin(self) -> None:
        """Called at the start of each evaluation."""
        self.used = set()

    def rows(self, key: Hashable, conditionings: tuple[Hashable, ...]) -> Rows:
        """What is kept for these conditionings, of calls named by `key`.

        A host joins conditionings in one call of the network, or separates them, as its memory allows. What is kept of
        a conditioning goes with it.
        """
        name = (key, conditionings)
        self.used.add(name)
        if name not in self.rows_by_key:
            self.rows_by_key[name] = self._assembled(key, conditionings) or Rows()
        return self.rows_by_key[name]

    def _assembled(self, key: Hashable, conditionings: tuple[Hashable, ...]) -> Rows | None:
        """Rows for these conditionings from the rows of other calls, in which they came in other company; None if there
        are none, or if they do not fit together.
        """
        alike = {name[1]: rows for name, rows in self.rows_by_key.items() if name[0] == key and rows.spans}
        pieces: list[Piece[Rows]] = []
        for conditioning in conditionings:
            source = next((names for names in alike if conditioning in names), None)
            if source is None:
                return None
            pieces.append(Piece(alike[source], source.index(conditioning), len(source)))
        assembled = Rows.assembled(pieces, self.planner.computed_span)
        taken = {*conditionings}.union(*(names for names in alike if (key, names) in self.used))
        for names in alike:
            if assembled is not None and (key, names) not in self.used and set(names) <= taken:
                del self.rows_by_key[key, names]
        return assembled

    def lay_out(self, rows: Rows, shape: RowsShape) -> None:
        """Divide the blocks into spans for rows of this shape, in a form that fits the memory budget."""
        rows.shape = shape
        self._fit_budget()
        rows.spans = make_spans(self._layouts(shape, self.storage.form), self.keeping, self.planner.computed_span)

    def histories(self, rows: Rows) -> list[TokenHistory]:
        """Histories of a few of the spans that compute some tokens, for all rows with as many tokens as these."""
        some = sorted(rows.histories)[:: max(1, len(rows.histories) // _RATE_BLOCKS)]
        alike = [other.histories for other in self.rows_by_key.values() if other.n_tokens == rows.n_tokens]
        return [histories[block] for block in some for histories in alike if block in histories]

    def end(self, computed_all: bool) -> None:
        """Called at the end of each evaluation. computed_all: it was an I-step."""
        self.evaluations += 1
        self.memory_bytes = max(self.memory_bytes, sum(rows.memory_bytes for rows in self.rows_by_key.values()))
        if self.evaluations == 1 and self.memory.budget.device:
            self.memory.rescale(sum(rows.key_bytes for rows in self.rows_by_key.values()))
            self._fit_budget()
        if computed_all:  # free the memory of rows that no longer occur (a conditioning's range has ended)
            for key in self.rows_by_key.keys() - self.used:
                del self.rows_by_key[key]

    def free(self) -> None:
        """Free everything in the middle of a run: the next evaluation of every set of rows computes everything."""
        for rows in self.rows_by_key.values():
            rows.forget()
        self.storage.release()

    def tokens_of(self, rows: int) -> int:
        """Tokens per row of a set of so many rows; 0 if none is known."""
        shapes = [each.shape for each in self.rows_by_key.values() if each.shape is not None]
        return next((shape.image + shape.text for shape in reversed(shapes) if shape.rows == rows), 0)

    def close(self) -> str | None:
        """Free everything; returns a note for the user if the budget was exceeded."""
        self.rows_by_key.clear()
        self.storage.release()
        return self.memory.shortfall(self.memory_bytes)

    def _fit_budget(self) -> None:
        """If the known rows do not fit the budget, store everything in a smaller form from now on."""
        known = [(rows, rows.shape) for rows in self.rows_by_key.values() if rows.shape is not None]
        before = self.storage.form
        form = self.memory.choose(lambda form: [(shape, self._layouts(shape, form)) for _, shape in known])
        self.storage.form = form
        for rows, _ in known:
            if form.computes != before.computes:
                rows.forget()
            elif form != before:
                rows.to_current_form()

    def _layouts(self, shape: RowsShape, form: Form) -> tuple[SpanLayout, ...]:
        """The spans for rows of this shape, in this storage form."""
        counts = self._counts(shape.image)
        if not form.computes:
            counts = tuple(count if count == shape.image else 0 for count in counts)
        return span_layouts(
            counts, shape.image, self.streams, shape.nothing_between_blocks and not self.planner.per_block
        )

    def _counts(self, n_tokens: int) -> Sequence[int]:
        return tokens_per_block(self.settings, len(self.streams), n_tokens, self.shares)
