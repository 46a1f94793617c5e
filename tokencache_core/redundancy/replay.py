"""What forecasts would have made of a whole run's updates: a schedule replayed on them, with no further run of the
model.

The blocks' inputs are those of the whole run, so that errors do not add up from block to block and from step to step.
How far a picture goes astray is for a run with the cache to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.polynomial import lagrange_weights
from ..schedules.schedule import UniformSchedule
from ..settings import MAX_ORDER

INTERVALS = (2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class Replayed:
    """A schedule on a run. errors: by order of the forecast, how far off it is, as a share of the update's length: mean
    over P-steps, blocks and tokens.
    """

    interval: int
    i_steps: int
    steps: int
    errors: tuple[float, ...]

    @property
    def order(self) -> int:
        """The best."""
        return self.errors.index(min(self.errors))

    @property
    def error(self) -> float:
        return min(self.errors)


def replays(taus: Sequence[float], updates: Tensor) -> tuple[Replayed, ...]:
    """Of the I-Step Scheduler's uniform policy, by rising intervals. updates: (steps, blocks, tokens, D), of steps at
    `taus`.
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
    """(P-steps, blocks): mean over tokens of |forecast - update| / |update|, the forecast through the last order + 1
    I-steps, `reach` 1.
    """
    errors = []
    for step, update in enumerate(updates):
        if step in i_steps:
            continue
        nodes = sorted(node for node in i_steps if node < step)[-(order + 1) :]
        weights = lagrange_weights([taus[node] for node in nodes], taus[step])
        forecast = sum(weight * updates[node].float() for weight, node in zip(weights, nodes))
        errors.append(((forecast - update).norm(dim=-1) / update.norm(dim=-1).clamp(min=1e-12)).mean(dim=-1))
    return torch.stack(errors)
