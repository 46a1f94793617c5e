"""The cache's memory: an estimate, before anything is stored, of what a run will keep between its steps, and the choice
of a storage form that fits a memory budget.

For each set of batch rows a run keeps
- for each span that reuses everything, one history: one update (R, N, D) per refresh, of image and text tokens;
- for each span that computes some tokens, the same for that stream, and one more update: the deviation from the
  forecast of the tokens computed since;
- for each block that computes some tokens, the keys and values of all its tokens, of one I-step if the context is
  "stale" and of two if it is "forecast".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..blocks.call import BlockCall
from ..blocks.spec import BlockSpec
from ..words.message import say
from .span_layout import SpanLayout
from .storage import Form

# from the mildest to the strictest; with off_device, the copies that blocks work with still lie on the device
FORMS = (
    Form(),
    Form(half=True),
    Form(half=True, off_device=True),
    Form(half=True, computes=False),
    Form(half=True, off_device=True, computes=False),
)


@dataclass(frozen=True)
class MemoryBudget:
    """The memory that the cache may use, in bytes.

    device: GPU memory; 0: no limit.
    main: main memory; None: no limit.
    """

    device: int = 0
    main: int | None = None

    def __post_init__(self) -> None:
        if self.device < 0:
            raise ValueError(f"a memory budget cannot be negative: {self.device} bytes (0 means no limit)")


@dataclass(frozen=True)
class RowsShape:
    """The shape of a set of batch rows, as seen in its first block call.

    rows: R, the number of rows.
    image, text: tokens per row.
    width: D, the width of a token.
    number_bytes: bytes of one element of a key.
    specs: of all blocks.
    nothing_between_blocks: nothing but the blocks touches the tokens between blocks.
    """

    rows: int
    image: int
    text: int
    width: int
    number_bytes: int
    specs: tuple[BlockSpec, ...]
    nothing_between_blocks: bool

    @classmethod
    def of(cls, call: BlockCall, specs: tuple[BlockSpec, ...], nothing_between_blocks: bool) -> RowsShape:
        rows, _, width = call.tokens.shape
        return cls(rows, call.n_image, call.n_text, width, call.tokens.element_size(), specs, nothing_between_blocks)


@dataclass(frozen=True)
class Kept:
    """Bytes that a run keeps.

    updates, keys_values: of each kind.
    working: bytes of these, or of copies of them, on the device at one time when the rest lies in main memory.
    """

    updates: int = 0
    keys_values: int = 0
    working: int = 0

    @property
    def total(self) -> int:
        return self.updates + self.keys_values

    def __add__(self, other: Kept) -> Kept:  # sets of rows are processed one after the other
        return Kept(
            self.updates + other.updates, self.keys_values + other.keys_values, max(self.working, other.working)
        )


def kept_by(shape: RowsShape, spans: Sequence[SpanLayout], form: Form, refreshes: int, key_refreshes: int) -> Kept:
    """The bytes that rows of this shape keep.

    refreshes, key_refreshes: number of refreshes kept of an update, and of keys and values.
    """
    kept = Kept()
    for span in spans:
        spec = shape.specs[span.first]
        if span.kind == "whole" or spec.whole or spec.tokens in spec.whole_if:
            continue
        attended = shape.image + (shape.text if spec.text or spec.text_length else 0)
        some = span.kind == "tokens"
        # where some tokens are computed, a second stream of text always is
        image_only = spec.text is not None and (some or spec.text_output is None)
        cached = shape.image if image_only else attended
        update = shape.rows * cached * shape.width * form.update_bytes
        of_block = 2 * shape.rows * attended * shape.width * shape.number_bytes if some and key_refreshes else 0
        blocks = span.last - span.first + 1
        # on the device at one time: the update in use and the next; the keys and values kept by this block and the
        # next, and those of the previous block, on their way out; where they are forecast, the forecast as well
        kept += Kept(
            (refreshes + some) * update, blocks * key_refreshes * of_block, 2 * update + 3 * key_refreshes * of_block
        )
    return kept


class CacheMemory:
    """A run's memory: its budget, the storage form chosen for it, and the expected size.

    tell: called with the estimate as text, before anything is stored.
    """

    def __init__(self, budget: MemoryBudget, refreshes: int, key_refreshes: int) -> None:
        self.budget, self.refreshes, self.key_refreshes = budget, refreshes, key_refreshes
        self.form = FORMS[0]
        self.expected, self.rows = Kept(), 0
        self.most = 0  # largest number of bytes expected at one time
        self.scale = 1.0  # correction factor of the estimate for keys and values
        self.tell: Callable[[str], None] = lambda words: None

    def rescale(self, keys_values: int) -> None:
        """Correct the estimate for keys and values by a measurement, since their width may differ from the tokens'.

        keys_values: their bytes after the first evaluation, which is one I-step.
        """
        if keys_values and self.expected.keys_values:
            self.scale *= keys_values * self.key_refreshes / self.expected.keys_values

    def choose(self, sets: Callable[[Form], list[tuple[RowsShape, Sequence[SpanLayout]]]]) -> Form:
        """Choose the mildest form, from the current one on, in which all sets of rows fit; otherwise the smallest.

        sets: from a form to the sets of rows and their spans.
        """
        forms = FORMS[FORMS.index(self.form) :] if self.budget.device else FORMS[:1]
        kept = {form: self._kept(sets(form), form) for form in forms}
        chosen = min(forms, key=lambda form: self._excess(form, kept[form]))  # the first of equals
        changed, began = chosen != self.form, not self.expected.total and kept[chosen].total
        self.form, self.expected = chosen, kept[chosen]
        self.rows = sum(shape.rows for shape, _ in sets(chosen))
        self.most = self.expected.total if changed else max(self.most, self.expected.total)
        if changed or began:
            self.tell(self.words)
        return chosen

    def _kept(self, sets: list[tuple[RowsShape, Sequence[SpanLayout]]], form: Form) -> Kept:
        kept = sum((kept_by(shape, spans, form, self.refreshes, self.key_refreshes) for shape, spans in sets), Kept())
        if self.scale == 1:
            return kept
        return Kept(kept.updates, round(kept.keys_values * self.scale), round(kept.working * max(1, self.scale)))

    def _excess(self, form: Form, kept: Kept) -> tuple[int, int]:
        """The bytes by which the limits of main memory and of the device are exceeded."""
        in_main = kept.total if form.off_device else 0
        over_main = 0 if self.budget.main is None else max(0, in_main - self.budget.main)
        return over_main, max(0, self.on_device(form, kept) - self.budget.device)

    @staticmethod
    def on_device(form: Form, kept: Kept) -> int:
        """The bytes on the device at one time."""
        return min(kept.working, kept.total) if form.off_device else kept.total

    @property
    def words(self) -> str:
        """The estimate as text."""
        budget = f", budget {readable_bytes(self.budget.device)}" if self.budget.device else ""
        return (  # for the log alone
            f"TokenCache will keep {readable_bytes(self.expected.total)} between steps for {self.rows} rows: updates "
            f"{readable_bytes(self.expected.updates)}, keys and values {readable_bytes(self.expected.keys_values)} "
            f"({self.form}{budget})"
        )

    def shortfall(self, measured: int) -> str | None:
        """A note for the user if the budget was exceeded; None if it was not.

        measured: the largest number of bytes that the run kept at one time.
        """
        if not self.budget.device:
            return None
        on_device = self.on_device(self.form, self.expected)
        if not self.form.off_device:
            on_device = max(on_device, measured)
        if on_device <= self.budget.device:
            return None
        return say(
            "note_budget_too_small",
            "the memory budget of {budget} was too small: the cache took at least {taken}",
            budget=readable_bytes(self.budget.device),
            taken=readable_bytes(on_device),
        )


def readable_bytes(n_bytes: int) -> str:
    """A number of bytes as text, in MiB or GiB."""
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"
