"""What a training takes of memory: weights shared or copied, what learns with its optimiser, and, by a rough rule,
activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

from torch import nn

from ..blocks.call import BlockCall
from ..blocks.spec import BlockSpec
from ..runs.run import Run
from .plan import TrainingPlan
from .reused_spans import first_step

# token streams that the gradient of one block needs: normed and modulated inputs, q, k, v, an MLP four times as wide
KEPT_IN_A_BLOCK = 20
STATES = 8  # of what learns: gradient, Adam's two moments, running average, best average, and a copy to go back to


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes. shared, copied: of the model's weights. learning: what learns. activations: the most that is kept at a
    time.
    """

    shared: int
    copied: int
    learning: int
    activations: int

    @property
    def added(self) -> int:
        """What is needed besides the loaded model."""
        return self.copied + (1 + STATES) * self.learning + self.activations

    def __str__(self) -> str:
        weights = (
            f"{_gb(self.copied)} for weights that were copied, {_gb(self.shared)} of weights are shared"
            if self.copied
            else (f"none for weights ({_gb(self.shared)} are shared with the loaded model)")
        )
        return (
            f"memory besides the model's own: {_gb(self.added)}: {weights}, {_gb(self.learning)} for what learns, "
            f"{_gb(STATES * self.learning)} for its gradients, optimiser and averages, roughly "
            f"{_gb(self.activations)} for activations"
        )


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e9:.2g} GB"


def activation_bytes(plan: TrainingPlan, n_blocks: int, steps: int, stream: int) -> int:
    """A rough rule: how many token streams of `stream` bytes the loss's gradient keeps until it is taken.

    A checkpointed block keeps its input, another KEPT_IN_A_BLOCK streams; the loss "run" goes through all of a run's
    steps, "drift" through the P-steps of a window, "step" through one.
    """
    settings = plan.settings
    i_steps = len(plan.schedule.i_steps([1.0 - step / steps for step in range(steps)]))
    p_steps = {"run": steps - i_steps, "drift": plan.interval - 1, "step": 1}[plan.loss]
    checkpointing = plan.checkpointing or plan.loss == "run"
    cacheable = n_blocks - settings.last_blocks
    computed = (1.0 if plan.predictor else 1 - settings.cache_ratio) * cacheable
    streams = p_steps * (
        settings.last_blocks * (1 if checkpointing else KEPT_IN_A_BLOCK) + computed * KEPT_IN_A_BLOCK + 1
    )
    if plan.loss == "run":
        streams += i_steps * n_blocks
    return round((streams + KEPT_IN_A_BLOCK) * stream)


def stream_bytes(run: Run, plan: TrainingPlan, block: nn.Module, spec: BlockSpec) -> int:
    """Of the tokens that the model's first block is given in one evaluation of all rows."""
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
