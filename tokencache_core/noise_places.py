"""I-steps evenly in the noise time, or the denser the noisier: from where a search for better places sets out.

A forecast is a polynomial in the noise time, whose reach beyond its nodes decides how much of their error it amplifies, so that equal gaps amplify it
least (Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, III.5).
"""

from __future__ import annotations

from collections.abc import Sequence

from .placed_schedule import nearest_steps

TAIL = 0.5      # of a gap, between the last I-step and the last step


def even_in_noise(count: int, taus: Sequence[float], warmup: int = 1, power: float = 1.0) -> tuple[int, ...]:
    """`count` I-steps, or as many as there are steps, of a run at the noise times `taus` (falling): the first `warmup`, then the others evenly.

    power: above 1 they are the denser the noisier.
    """
    first, count = min(warmup, count, len(taus)), min(count, len(taus))
    start, gaps = taus[first - 1], max(TAIL, count - first + TAIL)
    times = (start - (start - taus[-1]) * (number / gaps) ** power for number in range(count - first + 1))
    return nearest_steps([*taus[: first - 1], *times], taus)
