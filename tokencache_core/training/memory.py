"""Estimates a training's memory: weights (shared or copied), optimiser state and, by a rough rule, activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

from torch import nn

from ..blocks.call import BlockCall
from ..blocks.spec import BlockSpec
from ..runs.run import Run
from ..words.message import say
from .plan import TrainingPlan
from .reused_spans import first_step

# Token streams kept for the gradient of one block: normed and modulated inputs, q, k, v, an MLP four times as wide.
STREAMS_PER_BLOCK = 20
# Copies of the trained weights: gradient, Adam's two moments, running and best average, and the states to go back to.
STATE_COPIES = 8


@dataclass(frozen=True)
class TrainingMemory:
    """A training's memory in bytes.

    shared: the model's weights that are shared with the loaded model.
    copied: the model's weights that are copied.
    learning: the weights that are trained.
    activations: the most that is kept at a time for the gradient.
    """

    shared: int
    copied: int
    learning: int
    activations: int

    @property
    def added(self) -> int:
        """The bytes needed besides the loaded model."""
        return self.copied + (1 + STATE_COPIES) * self.learning + self.activations

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The estimate in words."""
        if not self.copied:
            return say(
                "training_memory_without_copies",
                "needs about {added} of memory beside the model ({activations} for activations; the {shared} of "
                "weights are shared with it)",
                **self._values,
            )
        return say(
            "training_memory",
            "needs about {added} of memory beside the model ({activations} for activations, {copied} for copied "
            "weights; {shared} of weights are shared with it)",
            **self._values,
        )

    def check_room(self, free: int) -> None:
        """MemoryError if the training needs more than the `free` bytes."""
        if self.added > free:
            raise MemoryError(
                f"This training needs about {_gb(self.added)} of memory, and {_gb(free)} are free: use a smaller "
                "latent or batch, fewer steps, or the loss drift."
            )

    @property
    def _values(self) -> dict[str, str]:
        sizes = {"added": self.added, "copied": self.copied, "shared": self.shared, "activations": self.activations}
        return {name: _gb(size) for name, size in sizes.items()}


def _gb(size: float) -> str:
    """A number of bytes as text, in GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e9:.2g} GB"


def activation_bytes(plan: TrainingPlan, n_blocks: int, steps: int, stream: int) -> int:
    """A rough estimate of the bytes that are kept for the gradient of one loss.

    A checkpointed block keeps its input, any other STREAMS_PER_BLOCK token streams. The loss "run" goes through all
    steps of a run, "drift" through the P-steps of a window, "step" through one.

    plan: of the training.
    n_blocks, steps: of the model, and of a run.
    stream: bytes of one token stream (see `stream_bytes`).
    """
    settings = plan.settings
    i_steps = len(plan.schedule.i_steps([1.0 - step / steps for step in range(steps)]))
    p_steps = {"run": steps - i_steps, "drift": plan.interval - 1, "step": 1}[plan.loss]
    checkpointing = plan.checkpointing or plan.loss == "run"
    cacheable = n_blocks - settings.last_blocks
    computed = (1.0 if plan.predictor else 1 - settings.cache_ratio) * cacheable
    streams = p_steps * (
        settings.last_blocks * (1 if checkpointing else STREAMS_PER_BLOCK) + computed * STREAMS_PER_BLOCK + 1
    )
    if plan.loss == "run":
        streams += i_steps * n_blocks
    return round((streams + STREAMS_PER_BLOCK) * stream)


def stream_bytes(run: Run, plan: TrainingPlan, block: nn.Module, spec: BlockSpec) -> int:
    """The bytes of the tokens that the model's first block is given in one evaluation of all rows."""
    found = 0

    def look(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        nonlocal found
        found += BlockCall(spec, _method(block), args, kwargs).tokens.nbytes

    session = run.open_session(plan.settings, plan.schedule)
    handle = block.register_forward_pre_hook(look, with_kwargs=True)
    try:
        first_step(run, session)
    finally:
        handle.remove()
        session.close()
    return found


def _method(block: nn.Module) -> Callable[..., Any]:
    return MethodType(type(block).forward, block)
