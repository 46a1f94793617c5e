"""The record of a finished run: what the cache did, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from ..blocks.token_grid import LatentShape, TokenGrid
from ..words.message import joined, lines, say
from .computed_tokens import ComputedTokens
from .memory_budget import readable_bytes


@dataclass(frozen=True)
class StepRecord:
    """One evaluation of the model.

    index: the step that it belongs to.
    kind: "I" (everything computed) or "P".
    seconds: wall clock.
    bookkeeping: seconds of these that the cache itself took; measured on a CPU, 0 on a GPU, which runs asynchronously.
    computed, available: block-tokens, summed over rows and blocks.
    block_tokens: tokens computed per row, for each block.
    token_counts: (images, N), the number of blocks that computed each image token.
    misses: network calls that found nothing in the cache on a P-step and therefore ran in full.
    tokens: which image tokens each block computed.
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
        """Share of the block-tokens computed, 0..1; 1 for a step that ran without the cache."""
        return self.computed / self.available if self.available else 1.0


@dataclass(frozen=True)
class RunConditions:
    """Optional facts about a run that only the host knows.

    steps: number of steps of the sampler's schedule; 0: not known.
    sampler: its name.
    fresh_noise: whether the sampler adds new noise on every step.
    trained_on: size of the latents, without batch and channels, that the predictor was trained on.
    model_size: size of the latents that the model was trained on, if it was trained at one size only.
    pixels: number of pixels along each side that one element of a latent spans; 0: not known.
    prompt, node, item: where the host ran it: the queued prompt, the sampler's node, and its place in a list of
        latents.
    finished: the time of day when it ended, as text.
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
    finished: str = ""


@dataclass(frozen=True)
class Report:
    """The report of a finished run.

    steps: one record per evaluation.
    memory_bytes: the most that the cache held at one time.
    settings: the cache settings as text.
    notes: notes for the user.
    learned: the learned parts as text; empty: there were none.
    latent: the shape of the sampled latents.
    expected_bytes: the estimate of memory_bytes made before anything was stored.
    storage: the form in which the cache was stored, as text.
    conditions: further facts about the run.
    placed: why the I-steps lie where they do, as text; empty: the user placed them.
    teaches: whether the run was computed in full in order to place the I-steps of later runs better.
    plain_seconds: what as many steps took without the cache; 0: they were not run without it.
    timed_seconds: what this run took, timed as they were; 0: the sum of its steps.
    earlier: whether the run belongs to an earlier execution than the last one.
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
    plain_seconds: float = 0.0
    timed_seconds: float = 0.0
    earlier: bool = False

    @property
    def seconds(self) -> float:
        return self.timed_seconds or self.step_seconds

    @property
    def step_seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    @property
    def compute(self) -> float:
        """Share of the block-tokens computed, over all evaluations of the run, 0..1."""
        available = sum(step.available for step in self.steps)
        return sum(step.computed for step in self.steps) / available if available else 1.0

    @property
    def whole_step_seconds(self) -> float:
        """Estimated seconds of a step without the cache: the median I-step minus its bookkeeping."""
        return median(step.seconds - step.bookkeeping for step in self.steps if step.kind == "I")

    @property
    def speedup_estimate(self) -> float:
        """Estimated speed-up over the same evaluations without the cache, from this run's own I-steps."""
        return len(self.steps) * self.whole_step_seconds / self.step_seconds

    @property
    def speedup(self) -> float:
        """The measured speed-up, or its estimate if the run was not measured without the cache."""
        return self.plain_seconds / self.seconds if self.plain_seconds else self.speedup_estimate

    @property
    def token_counts(self) -> Tensor:
        """(images, N): the number of blocks, over all steps, that computed each image token."""
        shape = self.steps[0].token_counts.shape
        return torch.stack([step.token_counts for step in self.steps if step.token_counts.shape == shape]).sum(dim=0)

    @property
    def grid(self) -> TokenGrid | None:
        """The grid of the image tokens; None if it is not known (see `unplaced`)."""
        return self.latent.grid(self.steps[0].token_counts.shape[1])

    @property
    def unplaced(self) -> str | None:
        """Why the grid of the image tokens is not known; None if it is known."""
        if self.grid is not None:
            return None
        n_tokens = self.steps[0].token_counts.shape[1]
        if not n_tokens:
            return say(
                "no_map_of_unknown_tokens",
                "no map of the tokens: there is none for runs in context windows or areas, nor for models whose "
                "tokens are not known",
            )
        return say(
            "no_map_of_other_tokens",
            "no map of the tokens: its {count} tokens do not fit a latent of {size}",
            count=n_tokens,
            size=" x ".join(map(str, self.latent.size)),
        )

    @property
    def frame_counts(self) -> Tensor | None:
        """(frames,): tokens of each frame that a P-step computed, mean over P-steps, images and blocks.

        None if there were no P-steps, or the grid is not known.
        """
        shape, grid = self.steps[0].token_counts.shape, self.grid
        counts = [step.token_counts for step in self.steps if step.kind == "P" and step.token_counts.shape == shape]
        if not counts or grid is None:
            return None
        in_frames = grid.places(torch.stack(counts)).sum(dim=(-2, -1))  # (P-steps, images, frames)
        return in_frames.mean(dim=(0, 1)) / len(self.steps[0].block_tokens)

    @property
    def block_counts(self) -> Tensor:
        """(steps, blocks): tokens computed per row."""
        return torch.tensor([step.block_tokens for step in self.steps])

    @property
    def name(self) -> str:
        """The run's name, which tells it from others: steps, size, node and time; "" if nothing is known."""
        known = self.conditions
        steps = known.steps or len({step.index for step in self.steps})
        parts = [
            say("run_steps", "{steps} steps", steps=steps),
            size_in_words(self.latent.size, known.pixels) if self.latent.size else "",
            say("run_node", "node {number}", number=known.node) if known.node else "",
            say("run_finished", "finished at {time}", time=known.finished) if known.finished else "",
        ]
        return joined(", ", [part for part in parts if part]) if known != RunConditions() else ""

    def text(self) -> str:
        """The report as text for the user."""
        kinds = "".join(step.kind for step in self.steps)
        i_seconds = [s.seconds for s in self.steps if s.kind == "I"]
        p_seconds = [s.seconds for s in self.steps if s.kind == "P"]
        i_step = f"{median(i_seconds) * 1000:.1f}"
        return lines(
            say(
                "report_head",
                "TokenCache: {count} evaluations in {seconds} s, {speedup}x faster than uncached (estimate from this "
                "run's own I-steps)",
                count=len(self.steps),
                seconds=f"{self.seconds:.2f}",
                speedup=f"{self.speedup_estimate:.2f}",
            ),
            say("report_run", "run: {name}", name=self.name) if self.name else "",
            say(
                "report_plain",
                "as many steps without TokenCache: {seconds} s, {speedup} times as long",
                seconds=f"{self.plain_seconds:.2f}",
                speedup=f"{self.speedup:.2f}",
            )
            if self.plain_seconds
            else "",
            say("report_compute", "compute: {share} of the block-tokens", share=f"{self.compute:.1%}"),
            say(
                "report_steps",
                "steps: {kinds} ({whole} I-steps, {forecast} P-steps)",
                kinds=kinds,
                whole=len(i_seconds),
                forecast=len(p_seconds),
            ),
            say("report_placed", "I-steps: {why}", why=self.placed) if self.placed else "",
            say(
                "report_times",
                "time: I-step {i_step} ms, P-step {p_step} ms",
                i_step=i_step,
                p_step=f"{median(p_seconds) * 1000:.1f}",
            )
            if p_seconds
            else say("report_time", "time: I-step {i_step} ms", i_step=i_step),
            say(
                "report_memory",
                "memory held by the cache: {held}, expected {expected} ({storage})",
                held=readable_bytes(self.memory_bytes),
                expected=readable_bytes(self.expected_bytes),
                storage=self.storage,
            ),
            say("report_settings", "settings: {settings}", settings=self.settings),
            say("report_predictor", "predictor: {learned}", learned=self.learned)
            if self.learned
            else say("report_no_predictor", "predictor: none"),
            *self._frames_text(),
            *self.notes,
        )

    def _frames_text(self) -> list[str]:
        """The line about a video's frames, or about an unknown grid; none for a picture."""
        if not self.latent.size:
            return []
        grid = self.grid
        if grid is None:
            return [self.unplaced] if self.unplaced else []
        if grid.frames == 1:
            return []
        text = say(
            "report_frames",
            "frames: {frames} of {tokens} tokens ({rows} x {columns})",
            frames=grid.frames,
            tokens=grid.per_frame,
            rows=grid.rows,
            columns=grid.columns,
        )
        counts = self.frame_counts
        if counts is None:
            return [text]
        least, most = int(counts.argmin()), int(counts.argmax())
        if least == most:
            return [
                say(
                    "report_every_frame",
                    "{frames}; P-steps computed {count} tokens of every frame, mean over blocks",
                    frames=text,
                    count=f"{counts[least]:.1f}",
                )
            ]
        return [
            say(
                "report_some_frames",
                "{frames}; P-steps computed {least} (frame {first}) to {most} (frame {second}) tokens of a frame, mean "
                "over blocks",
                frames=text,
                least=f"{counts[least]:.1f}",
                first=least + 1,
                most=f"{counts[most]:.1f}",
                second=most + 1,
            )
        ]


def size_in_words(size: tuple[int, ...], pixels: int) -> str:
    """The size of a latent as text, in pixels if possible.

    size: (T, H, W), (H, W) or (L,).
    pixels: number of pixels along each side that one element of the latent spans; 0: not known.
    """
    if len(size) < 2 or not pixels:
        return say("size_of_latent", "a latent of {size}", size=" x ".join(map(str, size)))
    height, width = (length * pixels for length in size[-2:])
    if len(size) < 3:
        return say("size_in_pixels", "{width} x {height} px", width=width, height=height)
    return say(
        "size_of_video", "{width} x {height} px and {frames} latent frames", width=width, height=height, frames=size[0]
    )
