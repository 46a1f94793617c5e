"""Starting points for a search for places: I-steps spaced evenly in noise time, more densely where it is noisier, or
evenly in step number.

A forecast is a polynomial in the noise time, and the further it extrapolates beyond its nodes, the more it amplifies
their error. Equal gaps amplify it least (Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, III.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from .placed import nearest_steps

TAIL = 0.5  # distance between the last I-step and the last step, in gaps


def even_in_noise(count: int, taus: Sequence[float], warmup: int = 1, power: float = 1.0) -> tuple[int, ...]:
    """I-steps of a run: its first steps, and the others spaced evenly in noise time.

    count: number of I-steps, at most the number of steps.
    taus: noise times of the run's steps, falling.
    warmup: number of first steps that are I-steps in any case.
    power: above 1, the I-steps lie more densely where it is noisier.
    """
    first, count = min(warmup, count, len(taus)), min(count, len(taus))
    start, gaps = taus[first - 1], max(TAIL, count - first + TAIL)
    times = (start - (start - taus[-1]) * (number / gaps) ** power for number in range(count - first + 1))
    return nearest_steps([*taus[: first - 1], *times], taus)


def even_in_steps(count: int, steps: int) -> tuple[int, ...]:
    """`count` I-steps from the first to the last of `steps` steps, spaced as evenly as possible, longer gaps first."""
    if count < 2:
        return (0,)
    shortest, longer = divmod(steps - 1, count - 1)
    return tuple(accumulate([shortest + 1] * longer + [shortest] * (count - 1 - longer), initial=0))
