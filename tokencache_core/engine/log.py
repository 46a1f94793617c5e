"""The log of a run: its evaluations one by one, what each computed and how long it took, and what the user should be
told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import replace

import torch
from torch import Tensor

from ..blocks.call import BlockCall
from ..blocks.token_index import TokenIndex
from .computed_tokens import ComputedTokens, DrawnTokens
from .record import StepRecord
from .stopwatch import Stopwatch

_MASK_BYTES = 2**23  # that a run may keep of which tokens it computed, to be looked at afterwards


class Evaluation:
    """One evaluation of the model at one sigma; it may take several calls of the network (conditionings apart).

    index: of the step that it belongs to. spacing: refreshes no further apart in tau count as one.
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
        self.bookkeeping = 0.0  # seconds of the cache itself, on a CPU
        self.rows = 0
        self.computed = [0] * n_blocks  # tokens computed, summed over rows
        self.block_seconds = [0.0] * n_blocks  # inside of each block, on a CPU; a GPU runs behind the clock
        self.available = 0  # tokens there were, summed over rows and blocks
        self.rankings: dict[tuple[int, int, int | None], Tensor] = {}  # by images, image tokens and block
        self.drawn: DrawnTokens | None = None  # by the call of the network that has the most image tokens
        self.token_counts = torch.zeros(0, 0)  # of that call, once it has ended: (images, N)
        self.tokens = ComputedTokens()
        self.misses = 0  # calls of the network that had nothing cached on a P-step
        self.calls: Counter[Hashable] = Counter()  # of the network, by the rows that they name

    @property
    def reused(self) -> float:
        """The share of the block-tokens that was not computed, 0..1."""
        return 1 - sum(self.computed) / self.available

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
    """Counts what one call of the network computes. images: rows per conditioning. partial_latent: its tokens have no
    place among the report's.
    """

    def __init__(self, evaluation: Evaluation, images: int, partial_latent: bool) -> None:
        self.evaluation, self.images, self.partial_latent = evaluation, images, partial_latent
        self.drawn: DrawnTokens | None = None  # if this call draws the evaluation's tokens
        self.begun = False

    def add(self, block: int, call: BlockCall, compute: TokenIndex | None) -> None:
        """compute: the image tokens computed, with all text tokens unless there are none of either; None: all."""
        evaluation, n_rows, n_image = self.evaluation, call.tokens.shape[0], call.n_image
        image = n_image if compute is None else compute.count
        evaluation.available += n_rows * (n_image + call.n_text)
        evaluation.computed[block] += n_rows * (image + (call.n_text if image else 0))
        if not self.begun:
            self.begun = True
            evaluation.rows += n_rows
            if not self.partial_latent and (evaluation.drawn is None or n_image > evaluation.drawn.n_tokens):
                evaluation.drawn = self.drawn = DrawnTokens(self.images, n_image, call.tokens.device)
        if self.drawn is not None and evaluation.drawn is self.drawn:
            self.drawn.add(block, compute)


class RunLog:
    """The evaluations that have ended, and notes for the report."""

    def __init__(self) -> None:
        self.evaluations: list[Evaluation] = []
        self.mask_bytes = _MASK_BYTES  # that are still free
        self._notes: dict[str, None] = {}  # in the order in which they were first made

    @property
    def last(self) -> Evaluation | None:
        return self.evaluations[-1] if self.evaluations else None

    @property
    def previous_sigma(self) -> float | None:
        """Of the evaluation before the last one."""
        return self.evaluations[-2].sigma if len(self.evaluations) > 1 else None

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    def note(self, text: str) -> None:
        """Something that the user should read in the report; said once."""
        self._notes.setdefault(text)

    def add(self, evaluation: Evaluation) -> None:
        """An evaluation has ended."""
        evaluation.watch.stop()
        if evaluation.drawn is not None:
            evaluation.token_counts, evaluation.tokens = evaluation.drawn.settle(self.mask_bytes)
            self.mask_bytes -= evaluation.tokens.masks.numel()
            evaluation.drawn = None
        self.evaluations.append(evaluation)
