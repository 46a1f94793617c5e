"""`tokencache` in the benchmark: our best setting without training, and where it places its I-steps."""

from __future__ import annotations

from .bench_match import spread_i_steps
from .settings import CacheSettings

OURS = CacheSettings(cache_ratio=1.0, order=2)


def place_i_steps(count: int, steps: int) -> tuple[int, ...]:
    return spread_i_steps(count, steps, OURS.order + 1)
