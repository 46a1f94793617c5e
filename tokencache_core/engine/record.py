"""What a run leaves behind: what the cache did, and what the clock said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from ..blocks.token_grid import LatentShape, TokenGrid
from .computed_tokens import ComputedTokens
from .memory_budget import in_units


@dataclass(frozen=True)
class StepRecord:
    """One evaluation of the model.

    kind: "I" (everything computed) or "P". seconds: wall clock. bookkeeping: of these, seconds spent by the cache
    itself (measured on a CPU; 0 on a GPU, which runs behind). computed, available: block-tokens, summed over rows and
    blocks.
    block_tokens: tokens computed per block and row. token_counts: (images, N), blocks that computed each image token.
    misses: calls of the network that had nothing cached on a P-step and therefore ran whole. tokens: which image tokens
        each block computed.
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
    tokens: ComputedTokens = ComputedTokens()

    @property
    def compute(self) -> float:
        """Share of the block-tokens computed, 0..1; a step that the cache never saw computed everything."""
        return self.computed / self.available if self.available else 1.0


@dataclass(frozen=True)
class RunConditions:
    """Optional facts about a run that only the host knows.

    steps: of the sampler's schedule; 0: not known.
    sampler: its name.
    fresh_noise: whether it adds noise of its own on every step.
    trained_on: size of the latents, without batch and channels, that the predictor was trained on.
    model_size: size that the model itself was trained on, if it was trained on one alone.
    pixels: side of the picture that one place of a latent spans.
    prompt, node, item: where the host ran it: the queued prompt, the sampler's node, and its place in a list of
        latents.
    """

    steps: int = 0
    sampler: str = ""
    fresh_noise: bool | None = None
    trained_on: tuple[int, ...] = ()
    model_size: tuple[int, ...] = ()
    pixels: int = 0
    prompt: str = ""
    node: str = ""
    item: int = 0


@dataclass(frozen=True)
class Report:
    """A finished run. settings, learned: what it ran with, in words; nothing learned: empty. latent: that it sampled.
    placed: why its I-steps lie where they do, in words; empty: as the user placed them. teaches: it was computed whole,
    so that later runs' I-steps lie better.

    memory_bytes: the most that the cache held at one time; expected_bytes: the same, as told before anything was
    stored. storage: in what form it was held.
    """

    steps: tuple[StepRecord, ...]
    memory_bytes: int
    settings: str
    notes: tuple[str, ...] = ()
    learned: str = ""
    latent: LatentShape = LatentShape()
    expected_bytes: int = 0
    storage: str = ""
    conditions: RunConditions = RunConditions()
    placed: str = ""
    teaches: bool = False

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
    def grid(self) -> TokenGrid | None:
        """Where the image tokens lie; None: see `unplaced`."""
        return self.latent.grid(self.steps[0].token_counts.shape[1])

    @property
    def unplaced(self) -> str | None:
        """Why nobody knows where the image tokens lie, if so."""
        n_tokens = self.steps[0].token_counts.shape[1]
        if self.grid is not None:
            return None
        if not n_tokens:
            return "no map of the tokens: runs in context windows or areas, and uncached ones, have none"
        return (
            f"no map of the tokens: {n_tokens} of them are no patches of a latent of "
            f"{' x '.join(map(str, self.latent.size))}"
        )

    @property
    def frame_counts(self) -> Tensor | None:
        """(frames,): how many of a frame's tokens P-steps computed, mean over blocks and images; None: there were no
        P-steps.
        """
        shape = self.steps[0].token_counts.shape
        counts = [step.token_counts for step in self.steps if step.kind == "P" and step.token_counts.shape == shape]
        if not counts:
            return None
        in_frames = self.grid.places(torch.stack(counts)).sum(dim=(-2, -1))  # (P-steps, images, frames)
        return in_frames.mean(dim=(0, 1)) / len(self.steps[0].block_tokens)

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
            *([f"I-steps: {self.placed}"] if self.placed else []),
            f"time: I-step {median(i_seconds) * 1000:.1f} ms"
            + (f", P-step {median(p_seconds) * 1000:.1f} ms" if p_seconds else ""),
            f"memory held by the cache: {in_units(self.memory_bytes)}, expected {in_units(self.expected_bytes)} "
            f"({self.storage})",
            f"settings: {self.settings}",
            f"predictor: {self.learned or 'none'}",
        ]
        return "\n".join([*lines, *self._places(), *self.notes])

    def _places(self) -> list[str]:
        """What to say of where tokens lie: nothing of a picture's."""
        if not self.latent.size:
            return []
        grid = self.grid
        if grid is None or grid.frames == 1:
            return [] if grid else [self.unplaced]
        text = f"frames: {grid.frames} of {grid.per_frame} tokens ({grid.rows} x {grid.columns})"
        counts = self.frame_counts
        if counts is None:
            return [text]
        least, most = int(counts.argmin()), int(counts.argmax())
        computed = (
            f"{counts[least]:.1f} tokens of every frame"
            if least == most
            else f"{counts[least]:.1f} (frame {least + 1}) to {counts[most]:.1f} (frame {most + 1}) tokens of a frame"
        )
        return [f"{text}; P-steps computed {computed}, mean over blocks"]
