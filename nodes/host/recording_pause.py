"""The pause of the host's recorder of what blocks allocate, in hosts that have such a recorder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from comfy import model_prefetch
except ImportError:
    model_prefetch = None

PAUSE_RECORDING: Callable[[], Any] | None = getattr(model_prefetch, "pause_malloc_graph", None)
