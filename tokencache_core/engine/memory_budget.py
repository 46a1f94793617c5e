"""The cache's memory: what a run will keep between its steps, told before anything is stored, and how, so that it fits
a budget.

Per set of batch rows a run keeps
- of neighbouring blocks that reuse everything, one history: an update (R, N, D) a refresh, of image tokens and text;
- of neighbouring blocks that compute the same tokens, the same of the tokens they compute some of, and one more update,
  how far the
  tokens computed since have moved away from the forecast;
- of every block that computes some tokens, the keys and values of all of them, of one I-step where the context is
  "stale", of two where it
  is "forecast".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..blocks.call import BlockCall
from ..blocks.spec import BlockSpec
from .span_layout import SpanLayout
from .storage import Form

# from the mildest on; off the device, the copies that blocks work with stay on it
FORMS = (
    Form(),
    Form(half=True),
    Form(half=True, off_device=True),
    Form(half=True, computes=False),
    Form(half=True, off_device=True, computes=False),
)


@dataclass(frozen=True)
class MemoryBudget:
    """What the cache may keep, in bytes. device: in the GPU's memory, 0 without a limit. main: in main memory, None
    without.
    """

    device: int = 0
    main: int | None = None

    def __post_init__(self) -> None:
        if self.device < 0:
            raise ValueError(f"a memory budget cannot be negative: {self.device} bytes (0 sets no limit)")


@dataclass(frozen=True)
class RowsShape:
    """A set of batch rows, as its first block call tells. rows: R. image, text: tokens a row. width: D. number_bytes:
    of one in a key.

    specs: of all blocks. together: nothing but the blocks touches the tokens between them.
    """

    rows: int
    image: int
    text: int
    width: int
    number_bytes: int
    specs: tuple[BlockSpec, ...]
    together: bool

    @classmethod
    def of(cls, call: BlockCall, specs: tuple[BlockSpec, ...], together: bool) -> RowsShape:
        rows, _, width = call.tokens.shape
        return cls(rows, call.n_image, call.n_text, width, call.tokens.element_size(), specs, together)


@dataclass(frozen=True)
class Kept:
    """Bytes that a run keeps. working: of that, or of copies of it, on the device at one time where the rest is in main
    memory.
    """

    updates: int = 0
    keys_values: int = 0
    working: int = 0

    @property
    def total(self) -> int:
        return self.updates + self.keys_values

    def __add__(self, other: Kept) -> Kept:  # sets of rows come one after the other
        return Kept(
            self.updates + other.updates, self.keys_values + other.keys_values, max(self.working, other.working)
        )


def kept_by(shape: RowsShape, spans: Sequence[SpanLayout], form: Form, refreshes: int, key_refreshes: int) -> Kept:
    """What rows of this shape keep. refreshes, key_refreshes: kept of an update, and of keys and values."""
    kept = Kept()
    for span in spans:
        spec = shape.specs[span.first]
        if span.kind == "whole" or spec.whole or spec.tokens in spec.whole_if:
            continue
        attended = shape.image + (shape.text if spec.text or spec.text_length else 0)
        some = span.kind == "tokens"
        image_alone = spec.text is not None and (
            some or spec.text_output is None
        )  # where some are computed, a second stream always is
        cached = shape.image if image_alone else attended
        update = shape.rows * cached * shape.width * form.update_bytes
        of_block = 2 * shape.rows * attended * shape.width * shape.number_bytes if some and key_refreshes else 0
        blocks = span.last - span.first + 1
        # at one time there are an update in use and the next, and the keys and values kept by this block and the next,
        # and those of the last
        # on their way out; where they are forecast, the forecast as well
        kept += Kept(
            (refreshes + some) * update, blocks * key_refreshes * of_block, 2 * update + 3 * key_refreshes * of_block
        )
    return kept


class CacheMemory:
    """A run's budget, the form that it led to and what is expected. tell: hears of it in words, before anything is
    stored.
    """

    def __init__(self, budget: MemoryBudget, refreshes: int, key_refreshes: int) -> None:
        self.budget, self.refreshes, self.key_refreshes = budget, refreshes, key_refreshes
        self.form = FORMS[0]
        self.expected, self.rows = Kept(), 0
        self.most = 0  # bytes expected at one time
        self.scale = 1.0  # of keys and values
        self.tell: Callable[[str], None] = lambda words: None

    def seen(self, keys_values: int) -> None:
        """The bytes of all keys and values after the first evaluation, of one I-step: a block may have more, or smaller
        ones, than its tokens' width tells.
        """
        if keys_values and self.expected.keys_values:
            self.scale *= keys_values * self.key_refreshes / self.expected.keys_values

    def choose(self, sets: Callable[[Form], list[tuple[RowsShape, Sequence[SpanLayout]]]]) -> Form:
        """The mildest form, no milder than before, in which all sets of rows fit; where none does, the smallest. sets:
        in a form.
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
        """By how many bytes the limits of main memory and of the device are crossed."""
        in_main = kept.total if form.off_device else 0
        over_main = 0 if self.budget.main is None else max(0, in_main - self.budget.main)
        return over_main, max(0, self.on_device(form, kept) - self.budget.device)

    @staticmethod
    def on_device(form: Form, kept: Kept) -> int:
        return min(kept.working, kept.total) if form.off_device else kept.total

    @property
    def words(self) -> str:
        budget = f", budget {in_units(self.budget.device)}" if self.budget.device else ""
        return (
            f"TokenCache will keep {in_units(self.expected.total)} between steps for {self.rows} rows: updates "
            f"{in_units(self.expected.updates)}, "
            f"keys and values {in_units(self.expected.keys_values)} ({self.form}{budget})"
        )

    def shortfall(self, measured: int) -> str | None:
        """What to tell the user of a budget that was not kept; measured: the most bytes that the run did keep."""
        if not self.budget.device:
            return None
        on_device = self.on_device(self.form, self.expected)
        if not self.form.off_device:
            on_device = max(on_device, measured)
        if on_device <= self.budget.device:
            return None
        return (
            f"the memory budget of {in_units(self.budget.device)} was too small: the cache took at least "
            f"{in_units(on_device)}"
        )


def in_units(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"
