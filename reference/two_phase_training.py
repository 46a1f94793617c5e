"""A training in two phases, of which the first has samples of half the side, that can be interrupted and resumed: its
learning rate, its optimisers, the moving average of its weights, its checkpoint, and the loop of its command.

Matrices are stepped by Muon, all else by AdamW.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .muon import Muon

SAVE_EVERY = 300  # seconds
TOLD_EVERY = 20  # seconds


@dataclass(frozen=True)
class TwoPhases:
    """Counted in samples seen, so that a run means the same at any speed."""

    half_batch: int = 32
    full_batch: int = 16
    half_resolution: int = 100_000  # samples in the first phase
    full_resolution: int = 50_000  # samples in the second phase
    warmup: int = 2_000
    decay: int = 15_000  # the last samples, over which the learning rate falls to zero
    lr: float = 1e-3
    full_lr: float = 0.5  # of the learning rate, in the second phase: its batches are smaller
    table_scale: float = 5.0  # of the learning rate of the words' table, whose rows are seldom seen
    seed: int = 0

    @property
    def total(self) -> int:
        return self.half_resolution + self.full_resolution

    def halved(self, seen: int) -> bool:
        return seen < self.half_resolution

    def batch(self, seen: int) -> int:
        return self.half_batch if self.halved(seen) else self.full_batch

    def learning_rate(self, seen: int) -> float:
        phase = 1.0 if self.halved(seen) else self.full_lr
        rise = (seen + self.batch(seen)) / self.warmup
        return self.lr * phase * min(1.0, rise, max(0.0, (self.total - seen) / self.decay))


class TwoPhaseTraining(ABC):
    """Model, average, optimisers and random state: all that a checkpoint holds.

    model, average: two of the same shape; the average begins as the model.
    matrices: the parameters that Muon steps.
    table: the parameters of the words' table.
    averaged_over: samples, the time constant of the weight average.
    bf16: whether matrices are multiplied in bfloat16.
    """

    samples = "samples"  # what they are called when progress is told

    def __init__(
        self,
        recipe: TwoPhases,
        model: nn.Module,
        average: nn.Module,
        *,
        matrices: Sequence[nn.Parameter],
        table: Sequence[nn.Parameter],
        averaged_over: float,
        bf16: bool,
    ) -> None:
        self.phases, self._averaged_over, self._bf16 = recipe, averaged_over, bf16
        self.seen, self.losses = 0, []
        self._model, self._average = model, average
        average.load_state_dict(model.state_dict())
        average.requires_grad_(False)
        self.random = torch.Generator().manual_seed(recipe.seed)
        chosen = {id(p) for p in (*matrices, *table)}
        others = [p for p in model.parameters() if id(p) not in chosen]
        self.optimizers = [
            Muon([{"params": list(matrices), "scale": 1.0}], dtype=torch.bfloat16 if bf16 else torch.float32),
            torch.optim.AdamW(
                [{"params": others, "scale": 1.0}, {"params": list(table), "scale": recipe.table_scale}],
                betas=(0.9, 0.99),
                weight_decay=0.01,
                fused=True,
            ),
        ]

    def mixed_precision(self) -> torch.autocast:
        """What the model is evaluated in."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self._bf16)

    @abstractmethod
    def step(self) -> Any:
        """Train on one batch. Returns what `summary` needs."""

    @abstractmethod
    def summary(self, steps: list) -> dict[str, float]:
        """The mean losses of what `step` returned, by what they are called."""

    def descend(self, loss: Tensor, samples: int) -> float:
        """One step of the optimisers, of a batch of this many samples. Returns the loss."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["scale"] * self.phases.learning_rate(self.seen)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.seen += samples
        self._follow(samples)
        return loss.item()

    @torch.no_grad()
    def _follow(self, samples: int) -> None:
        # the window opens with training, so that early samples show the model and not its first weights
        window = min(self._averaged_over, 0.1 * self.seen + 1)
        for average, present in zip(self._average.parameters(), self._model.parameters()):
            average.lerp_(present, min(1.0, samples / window))

    def save(self, file: Path) -> None:
        """Whole or not at all."""
        part = file.with_suffix(".part")
        torch.save(
            {
                "model": self._model.state_dict(),
                "average": self._average.state_dict(),
                "seen": self.seen,
                "losses": self.losses,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "random": self.random.get_state(),
                "recipe": asdict(self.phases),
            },
            part,
        )
        part.replace(file)

    def load(self, file: Path) -> None:
        state = torch.load(file, weights_only=True)
        self._model.load_state_dict(state["model"])
        self._average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(kept)
        self.random.set_state(state["random"])
        self.seen, self.losses = state["seen"], state["losses"]


Training = TypeVar("Training", bound=TwoPhaseTraining)


def run_to_the_end(training: Training, out: Path, stopped: Callable[[], bool] = lambda: False) -> Training:
    """Train to the end of the recipe, from the folder's checkpoint if it has one. stopped: asked after every step."""
    recipe, checkpoint = training.phases, out / "last.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    recent: list[Any] = []
    told = saved = time.monotonic()
    told_at = training.seen
    while training.seen < recipe.total and not stopped():
        recent.append(training.step())
        now = time.monotonic()
        if now - told >= TOLD_EVERY:
            means = training.summary(recent)
            training.losses.append([training.seen, *means.values()])
            speed = (training.seen - told_at) / (now - told)
            print(
                f"{training.seen} of {recipe.total} {training.samples}, {speed:.1f} a second, "
                f"{', '.join(f'{name} {mean:.4f}' for name, mean in means.items())}, "
                f"{(recipe.total - training.seen) / speed:.0f} s left",
                flush=True,
            )
            told, told_at = now, training.seen
            recent.clear()
        if now - saved >= SAVE_EVERY:
            training.save(checkpoint)
            saved = now
    training.save(checkpoint)
    return training


def phase_options(parser: argparse.ArgumentParser, defaults: type[TwoPhases], samples: str) -> None:
    """The options that all such commands have. samples: what they are called."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the loss log")
    parser.add_argument(
        "--half-resolution", type=int, default=defaults.half_resolution, help=f"{samples} in the first phase"
    )
    parser.add_argument(
        "--full-resolution", type=int, default=defaults.full_resolution, help=f"{samples} in the second phase"
    )
    parser.add_argument(
        "--decay",
        type=int,
        default=defaults.decay,
        help=f"the last {samples}, over which the learning rate falls to zero",
    )
    parser.add_argument("--lr", type=float, default=defaults.lr, help="learning rate")
    parser.add_argument(
        "--bf16",
        action="store_true",
        help="multiply matrices in bfloat16: several times as fast on CPUs with instructions for it (AVX512-BF16, "
        "AMX), several times as slow on others",
    )


def until_interrupted() -> Callable[[], bool]:
    """Whether the process has been asked to end; from now on it ends after a whole step."""
    signals: list[int] = []
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda number, frame: signals.append(number))
    return lambda: bool(signals)
