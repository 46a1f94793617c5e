"""I-steps evenly in the noise time, the denser the noisier, or evenly in the step's number: from where a search for
better places sets out.

A forecast is a polynomial in the noise time, whose reach beyond its nodes decides how much of their error it amplifies,
so that equal gaps amplify it least (Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, III.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from .placed import nearest_steps

TAIL = 0.5  # of a gap, between the last I-step and the last step


def even_in_noise(count: int, taus: Sequence[float], warmup: int = 1, power: float = 1.0) -> tuple[int, ...]:
    """`count` I-steps, or as many as there are steps, of a run at the noise times `taus` (falling): the first `warmup`,
    then the others evenly.

    power: above 1 they are the denser the noisier.
    """
    first, count = min(warmup, count, len(taus)), min(count, len(taus))
    start, gaps = taus[first - 1], max(TAIL, count - first + TAIL)
    times = (start - (start - taus[-1]) * (number / gaps) ** power for number in range(count - first + 1))
    return nearest_steps([*taus[: first - 1], *times], taus)


def even_in_steps(count: int, steps: int) -> tuple[int, ...]:
    """`count` I-steps of a run of `steps`, from the first to the last, as evenly as can be; the longer gaps first, so
    that they never grow.
    """
    if count < 2:
        return (0,)
    shortest, longer = divmod(steps - 1, count - 1)
    return tuple(accumulate([shortest + 1] * longer + [shortest] * (count - 1 - longer), initial=0))
