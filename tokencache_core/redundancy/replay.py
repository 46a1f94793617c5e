"""Replay of schedules on the updates of a full run: the errors that forecasts would have made, without running the
model again.

The blocks' inputs are those of the full run, so errors do not accumulate from block to block and from step to step.
The effect on the picture can only be seen in a run with the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.polynomial import lagrange_weights, weighted_sum
from ..schedules.schedule import UniformSchedule
from ..settings import MAX_ORDER

INTERVALS = (2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class Replayed:
    """A schedule replayed on a run.

    interval: of the uniform schedule.
    i_steps, steps: number of I-steps, and of all steps.
    errors: for each order of the forecast, its error relative to the update's length, mean over P-steps, blocks and
        tokens.
    """

    interval: int
    i_steps: int
    steps: int
    errors: tuple[float, ...]

    @property
    def order(self) -> int:
        """The order with the smallest error."""
        return self.errors.index(min(self.errors))

    @property
    def error(self) -> float:
        """The smallest error."""
        return min(self.errors)


def replays(taus: Sequence[float], updates: Tensor) -> tuple[Replayed, ...]:
    """Replays of the I-Step Scheduler's uniform policy, for rising intervals.

    taus: noise times of the steps.
    updates: (steps, blocks, tokens, D).
    """
    found: dict[int, Replayed] = {}
    for interval in INTERVALS:
        i_steps = UniformSchedule(interval).i_steps(taus)
        if len(i_steps) < len(taus) and len(i_steps) not in found:
            errors = tuple(
                float(forecast_errors(taus, updates, i_steps, order).mean()) for order in range(MAX_ORDER + 1)
            )
            found[len(i_steps)] = Replayed(interval, len(i_steps), len(taus), errors)
    return tuple(found.values())


def forecast_errors(taus: Sequence[float], updates: Tensor, i_steps: frozenset[int], order: int) -> Tensor:
    """(P-steps, blocks): mean over tokens of |forecast - update| / |update|.

    The forecast is the polynomial through the last order + 1 I-steps, with a reach of 1.
    """
    errors: list[Tensor] = []
    for step, update in enumerate(updates):
        if step in i_steps:
            continue
        nodes = sorted(node for node in i_steps if node < step)[-(order + 1) :]
        weights = lagrange_weights([taus[node] for node in nodes], taus[step])
        forecast = weighted_sum(weights, [updates[node].float() for node in nodes])
        errors.append(((forecast - update).norm(dim=-1) / update.norm(dim=-1).clamp(min=1e-12)).mean(dim=-1))
    return torch.stack(errors)
