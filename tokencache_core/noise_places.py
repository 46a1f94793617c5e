"""Where I-steps lie in a run of a model about which nothing is known: evenly in the noise time.

On the shifted schedules that flow models are sampled with, this is densest where the noise is strongest. A forecast is a polynomial in the same variable,
whose reach beyond its nodes decides how much of their error it amplifies, so that equal gaps amplify it least (Hairer, Norsett and Wanner, Solving
Ordinary Differential Equations I, III.5). The last gap ends with the run: about half as long as the others (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from .placed_schedule import nearest_steps

TAIL = 0.5      # of a gap, between the last I-step and the last step


def even_in_noise(count: int, taus: Sequence[float], warmup: int = 1) -> tuple[int, ...]:
    """`count` I-steps, or as many as there are steps, of a run at the noise times `taus` (falling): the first `warmup`, then the others evenly."""
    first, count = min(warmup, count, len(taus)), min(count, len(taus))
    start = taus[first - 1]
    gap = (start - taus[-1]) / max(TAIL, count - first + TAIL)
    return nearest_steps([*taus[: first - 1], *(start - number * gap for number in range(count - first + 1))], taus)


def every_interval(interval: int, taus: Sequence[float], warmup: int = 1) -> tuple[int, ...]:
    """As many I-steps as every `interval`-th of a run at the noise times `taus` would be after the first `warmup`, evenly in the noise time."""
    first = min(warmup, len(taus))
    return even_in_noise(first + -(-(len(taus) - first) // interval), taus, warmup)
