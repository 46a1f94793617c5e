"""What a run leaves behind: what the cache did, and what the clock said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepRecord:
    """One evaluation of the model.

    kind: "I" (everything computed) or "P". seconds: wall clock. bookkeeping: of these, seconds spent by the cache itself
    (measured on a CPU; 0 on a GPU, which runs behind). computed, available: block-tokens, summed over rows and blocks.
    block_tokens: tokens computed per block and row. token_counts: (images, N), blocks that computed each image token.
    misses: calls of the network that had nothing cached on a P-step and therefore ran whole.
    """

    index: int
    sigma: float
    kind: str
    seconds: float
    bookkeeping: float
    computed: int
    available: int
    block_tokens: tuple[float, ...]
    token_counts: Tensor = field(repr=False)
    misses: int = 0

    @property
    def compute(self) -> float:
        """Share of the block-tokens computed, 0..1; a step that the cache never saw computed everything."""
        return self.computed / self.available if self.available else 1.0


@dataclass(frozen=True)
class Report:
    """A finished run. memory_bytes: the most that the cache held at one time."""

    steps: tuple[StepRecord, ...]
    memory_bytes: int
    settings: str
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    @property
    def compute(self) -> float:
        """Share of block-token evaluations in the whole run."""
        available = sum(step.available for step in self.steps)
        return sum(step.computed for step in self.steps) / available if available else 1.0

    @property
    def whole_step_seconds(self) -> float:
        """Estimated seconds of an unpatched step: the median I-step less its bookkeeping."""
        return median(step.seconds - step.bookkeeping for step in self.steps if step.kind == "I")

    @property
    def speedup_estimate(self) -> float:
        """How much longer the same evaluations would have taken uncached: an estimate from this run's own I-steps."""
        return len(self.steps) * self.whole_step_seconds / self.seconds

    @property
    def token_counts(self) -> Tensor:
        """(images, N): how many block evaluations each image token had in the run."""
        shape = self.steps[0].token_counts.shape
        return torch.stack([step.token_counts for step in self.steps if step.token_counts.shape == shape]).sum(dim=0)

    @property
    def block_counts(self) -> Tensor:
        """(steps, blocks): tokens computed per block and row."""
        return torch.tensor([step.block_tokens for step in self.steps])

    def text(self) -> str:
        kinds = "".join(step.kind for step in self.steps)
        i_seconds = [s.seconds for s in self.steps if s.kind == "I"]
        p_seconds = [s.seconds for s in self.steps if s.kind == "P"]
        lines = [
            f"TokenCache: {len(self.steps)} evaluations in {self.seconds:.2f} s, "
            f"{self.speedup_estimate:.2f}x faster than uncached (estimate from this run's own I-steps)",
            f"compute: {self.compute:.1%} of the block-tokens",
            f"steps: {kinds} ({len(i_seconds)} I-steps, {len(p_seconds)} P-steps)",
            f"time: I-step {median(i_seconds) * 1000:.1f} ms" + (f", P-step {median(p_seconds) * 1000:.1f} ms" if p_seconds else ""),
            f"memory held by the cache: {self.memory_bytes / 2**20:.1f} MiB",
            f"settings: {self.settings}",
        ]
        return "\n".join([*lines, *self.notes])
