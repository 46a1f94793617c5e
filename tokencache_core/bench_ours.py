"""`tokencache` in the benchmark: our best setting without training, and where it places its I-steps."""

from __future__ import annotations

from .settings import CacheSettings

OURS = CacheSettings(cache_ratio=1.0, order=2)
WARMUP = OURS.order + 1  # a forecast of order m needs m + 1 refreshes

# The fewer I-steps a run has, the more it gains from taking them early; measured on the reference DiT in training:
# even spacing is best where half of the steps are I-steps, u^1.4 where a quarter or fewer are.
DENSE_SHARE, SPARSE_SHARE, SPARSE_POWER = 0.5, 0.24, 1.4


def place_i_steps(count: int, steps: int) -> tuple[int, ...]:
    """`count` I-steps of `steps`: a warm-up, then gaps that grow towards the end of the run."""
    placed = list(range(min(WARMUP, count)))
    start, others = len(placed) - 1, count - len(placed)
    power = _power(count / steps)
    for k in range(1, others + 1):
        wanted = start + round((steps - start) * (k / (others + 1)) ** power)
        latest = steps - 1 - (others - k)  # leaves room for those still to come
        placed.append(min(max(wanted, placed[-1] + 1), latest))
    return tuple(placed)


def _power(share: float) -> float:
    """1 where `share` of the steps are I-steps or more are, SPARSE_POWER where few are, linear in between."""
    sparseness = (DENSE_SHARE - share) / (DENSE_SHARE - SPARSE_SHARE)
    return 1 + (SPARSE_POWER - 1) * min(1.0, max(0.0, sparseness))
