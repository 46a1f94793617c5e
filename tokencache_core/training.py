"""Training the LoRA repair of the last K blocks (TokenCache, arXiv 2409.18523, section 3), one sampling run a step.

No data set: each iteration samples a batch of its own noise with caching, the way inference will, and corrects the
adapters after every window of P-steps. What is kept is their running average, so that training can be stopped at any time.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .adapters import Adapters
from .distill import Run, follow
from .drawn_runs import HELD_OUT_SEEDS
from .lora import LoraPair, LoraRepair
from .schedule import UniformSchedule
from .settings import CacheSettings
from .trained_cache import TrainingPoint


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained, and how.

    interval: of the I-steps. rank, alpha: of the adapters. average: share that an iteration's adapters have in the
    running average once it is warm. held_out_every: iterations between measurements on the held-out run.
    """

    settings: CacheSettings
    interval: int = 4
    rank: int = 16
    alpha: float = 16.0
    learning_rate: float = 1e-3
    average: float = 0.05
    held_out_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.settings.last_blocks < 1:
            raise ValueError("the LoRA repair sits on the last blocks, and last_blocks is 0: set it to 1 or more")
        if self.interval < 2:
            raise ValueError(f"interval {self.interval} leaves no P-steps to learn from: set it to 2 or more")
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"the learning rate must lie between 0 and 1, not {self.learning_rate}")
        if self.held_out_every < 1:
            raise ValueError(f"held_out_every counts iterations: at least 1, not {self.held_out_every}")

    @property
    def schedule(self) -> UniformSchedule:
        return UniformSchedule(self.interval)


class TrainingDiverged(ArithmeticError):
    """The drift is no longer a number; the averaged adapters are those of the last whole iteration."""


class Training:
    """The state of one training: the adapters, their average, the optimiser and what was measured.

    network: the model, which takes no gradient until `close`. blocks: its blocks in order; the last K hold the adapters
    until then. start: from a seed to a run of one batch. Seeds from HELD_OUT_SEEDS on are for measuring alone.
    """

    def __init__(
        self, plan: TrainingPlan, network: nn.Module, blocks: Sequence[nn.Module], start: Callable[[int], Run],
    ) -> None:
        self.plan, self.start = plan, start
        first = len(blocks) - plan.settings.last_blocks
        if first < 0:
            raise ValueError(f"last_blocks is {plan.settings.last_blocks}, but the model has only {len(blocks)} blocks")
        self.took_gradients = [weight for weight in network.parameters() if weight.requires_grad]
        _set_requires_grad(self.took_gradients, False)
        self.adapters = Adapters(dict(list(enumerate(blocks))[first:]), plan.rank, plan.alpha, plan.seed)
        self.average = [weight.detach().clone() for weight in self.adapters.parameters]
        self.optimizer = torch.optim.Adam(self.adapters.parameters, lr=plan.learning_rate, betas=(0.9, 0.95))
        self.iteration, self.seconds = 0, 0.0
        self.log: list[TrainingPoint] = []

    def step(self) -> TrainingPoint:
        """One iteration: a whole cached run of one batch, with an update of the adapters after every window of P-steps."""
        started = time.monotonic()
        run = self.start(self.plan.seed + self.iteration)
        session = run.open_session(self.plan.settings, self.plan.schedule)
        with self._whole_or_not_at_all():
            losses = follow(run, session, self._learn, self.adapters.on)
        self.iteration += 1
        self._average()
        held_out = self.held_out(self.repair()) if self.iteration % self.plan.held_out_every == 0 else None
        self.seconds += time.monotonic() - started
        self.log.append(TrainingPoint(self.iteration, self.seconds, sum(losses) / len(losses), held_out))
        return self.log[-1]

    def held_out(self, repair: LoraRepair | None) -> float:
        """Mean squared drift over the windows of the held-out run, under `repair` or without any."""
        run = self.start(HELD_OUT_SEEDS)
        losses = follow(run, run.open_session(self.plan.settings, self.plan.schedule, repair=repair))
        return sum(losses) / len(losses)

    def repair(self) -> LoraRepair:
        """The averaged adapters."""
        template, weights = self.adapters.repair(), iter(self.average)
        return replace(template, blocks={
            index: {path: LoraPair(next(weights).clone(), next(weights).clone()) for path in pairs}
            for index, pairs in template.blocks.items()
        })

    def close(self) -> None:
        """Give the model its plain layers back."""
        self.adapters.remove()
        _set_requires_grad(self.took_gradients, True)

    @contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        """An iteration that an interrupt or an error breaks off leaves the state of before, so that resuming is exact."""
        weights = [weight.detach().clone() for weight in self.adapters.parameters]
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        try:
            yield
        except BaseException:
            self.optimizer.zero_grad(set_to_none=True)
            self.optimizer.load_state_dict(optimizer)
            with torch.no_grad():
                torch._foreach_copy_(self.adapters.parameters, weights)
            raise

    def _learn(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"training diverged in iteration {self.iteration + 1}, and was stopped: what was learned before is kept; "
                f"train again at a lower learning rate than {self.plan.learning_rate:g}"
            )
        loss.backward()
        nn.utils.clip_grad_norm_(self.adapters.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _average(self) -> None:
        torch._foreach_lerp_(self.average, self.adapters.parameters, max(self.plan.average, 1 / self.iteration))


def _set_requires_grad(weights: Sequence[nn.Parameter], on: bool) -> None:
    for weight in weights:
        weight.requires_grad_(on)
