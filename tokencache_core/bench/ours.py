"""`tokencache` in the benchmark: our best setting without training, found with other seeds than the benchmark's (docs/experiments.md)."""

from __future__ import annotations

from ..settings import CacheSettings

OURS = CacheSettings(cache_ratio=1.0, order=2)
