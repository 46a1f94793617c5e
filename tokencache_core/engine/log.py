"""The log of a run: for each evaluation what it computed and how long it took, and notes for the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..blocks.call import BlockCall
from ..blocks.token_index import TokenIndex
from .computed_tokens import ComputedTokens, ShownTokens
from .record import StepRecord
from .stopwatch import Stopwatch

_MASK_BYTES = 2**23  # maximum size of a run's masks of computed tokens, which are kept for display


@dataclass(frozen=True)
class Counts:
    """A copy of what an `Evaluation` has counted so far, under its names."""

    rows: int
    computed: tuple[int, ...]
    available: int
    misses: int
    shown: ShownTokens | None
    calls: Counter[Hashable]


class Evaluation:
    """One evaluation of the model at one sigma; it may take several calls of the network, for different conditionings.

    index: the step that it belongs to.
    computes_all: whether it is an I-step.
    spacing: refreshes closer than this in tau count as one.
    """

    def __init__(
        self,
        index: int,
        sigma: float,
        tau: float,
        computes_all: bool,
        spacing: float,
        n_blocks: int,
        device: torch.device,
    ) -> None:
        self.index, self.sigma, self.tau, self.computes_all, self.spacing = index, sigma, tau, computes_all, spacing
        self.watch = Stopwatch(device)
        self.bookkeeping = 0.0  # seconds spent by the cache itself, on a CPU
        self.rows = 0
        self.computed = [0] * n_blocks  # tokens computed, summed over rows
        self.block_seconds = [0.0] * n_blocks  # spent inside each block, on a CPU; on a GPU they are not known
        self.available = 0  # all tokens, summed over rows and blocks
        self.rankings: dict[tuple[int, int, int | None], Tensor] = {}  # by images, image tokens and block
        self.shown: ShownTokens | None = None  # of the network call with the most image tokens
        self.token_counts = torch.zeros(0, 0)  # of that call, once it has ended: (images, N)
        self.tokens = ComputedTokens()
        self.misses = 0  # network calls that found nothing in the cache on a P-step
        self.calls: Counter[Hashable] = Counter()  # of the network, by the key of their rows
        self.reached = False  # whether the network was called at all

    def counts(self) -> Counts:
        """What has been counted so far, for `restore`."""
        return Counts(self.rows, tuple(self.computed), self.available, self.misses, self.shown, Counter(self.calls))

    def restore(self, counts: Counts) -> None:
        """Forget what has been counted since then: a call of the network failed, and will be repeated."""
        self.rows, self.computed, self.available = counts.rows, list(counts.computed), counts.available
        self.misses, self.shown, self.calls = counts.misses, counts.shown, Counter(counts.calls)

    @property
    def reused(self) -> float:
        """The share of the block-tokens that were not computed, 0..1."""
        return 1 - sum(self.computed) / self.available

    def count_whole(self, rows: int, tokens: int) -> None:
        """Count a call of the network that computed all `tokens` of all rows without the cache."""
        self.rows += rows
        self.available += rows * tokens * len(self.computed)
        self.computed = [computed + rows * tokens for computed in self.computed]

    def record(self) -> StepRecord:
        return StepRecord(
            index=self.index,
            sigma=self.sigma,
            kind="I" if self.computes_all else "P",
            seconds=self.watch.seconds(),
            bookkeeping=self.bookkeeping,
            computed=sum(self.computed),
            available=self.available,
            block_tokens=tuple(tokens / max(1, self.rows) for tokens in self.computed),
            token_counts=self.token_counts.cpu(),
            misses=self.misses,
            tokens=replace(self.tokens, masks=self.tokens.masks.cpu()),
        )


class CallCount:
    """Counts the tokens that one call of the network computes.

    images: rows per conditioning.
    partial_latent: the call sees only part of the latent, so the report does not show its tokens.
    """

    def __init__(self, evaluation: Evaluation, images: int, partial_latent: bool) -> None:
        self.evaluation, self.images, self.partial_latent = evaluation, images, partial_latent
        self.shown: ShownTokens | None = None  # if the report shows this call's tokens
        self.begun = False

    def add(self, block: int, call: BlockCall, compute: TokenIndex | None) -> None:
        """Count one block's tokens.

        compute: the computed image tokens; unless they are none, all text tokens are computed too. None: all tokens.
        """
        evaluation, n_rows, n_image = self.evaluation, call.tokens.shape[0], call.n_image
        image = n_image if compute is None else compute.count
        evaluation.available += n_rows * (n_image + call.n_text)
        evaluation.computed[block] += n_rows * (image + (call.n_text if image else 0))
        if not self.begun:
            self.begun = True
            evaluation.rows += n_rows
            if not self.partial_latent and (evaluation.shown is None or n_image > evaluation.shown.n_tokens):
                evaluation.shown = self.shown = ShownTokens(self.images, n_image, call.tokens.device)
        if self.shown is not None and evaluation.shown is self.shown:
            self.shown.add(block, compute)


class RunLog:
    """The evaluations that have ended, and notes for the report."""

    def __init__(self) -> None:
        self.evaluations: list[Evaluation] = []
        self.mask_bytes = _MASK_BYTES  # still free
        self._notes: dict[str, None] = {}  # a set in the order of insertion

    @property
    def last(self) -> Evaluation | None:
        return self.evaluations[-1] if self.evaluations else None

    @property
    def previous_sigma(self) -> float | None:
        """The sigma of the evaluation before the last one."""
        return self.evaluations[-2].sigma if len(self.evaluations) > 1 else None

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    def note(self, text: str) -> None:
        """Add a note to the report, once."""
        self._notes.setdefault(text)

    def add(self, evaluation: Evaluation) -> None:
        """Add an evaluation that has ended."""
        evaluation.watch.stop()
        if evaluation.shown is not None:
            evaluation.token_counts, evaluation.tokens = evaluation.shown.result(self.mask_bytes)
            self.mask_bytes -= evaluation.tokens.masks.numel()
            evaluation.shown = None
        self.evaluations.append(evaluation)
