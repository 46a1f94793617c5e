"""`tokencache` in the benchmark: our best setting without training, and where it places its I-steps.

Measured on the reference DiT with other seeds than the benchmark's (docs/experiments.md): even gaps from the first step on
are level with two whole steps at the start or better, three lose, although a forecast of order 2 then begins at order 0.
"""

from __future__ import annotations

from .bench_match import spread_i_steps
from .settings import CacheSettings

OURS = CacheSettings(cache_ratio=1.0, order=2)
WARMUP = 1


def place_i_steps(count: int, steps: int) -> tuple[int, ...]:
    return spread_i_steps(count, steps, WARMUP)
