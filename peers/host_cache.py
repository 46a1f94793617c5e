"""Our own cache on a MODEL of the host, as the node applies it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tokencache_core.settings import CacheSettings

from .comfy_caches import PACK


def apply_on_host(model: Any, settings: CacheSettings, i_steps: Sequence[int] | int) -> tuple[Any, Any]:
    """The patched MODEL, and the handle of its reports. i_steps: which, or how many. The pack, which `import_host` has
    loaded, has a copy of the core of its own.
    """
    hooks, core_settings, schedule = (
        importlib.import_module(f"{PACK}.{name}")
        for name in ("nodes.host.model_hooks", "tokencache_core.settings", "tokencache_core.schedules.schedule")
    )
    placed = schedule.CountSchedule(i_steps) if isinstance(i_steps, int) else schedule.ExplicitSchedule(tuple(i_steps))
    return hooks.apply_tokencache(model, core_settings.CacheSettings(**asdict(settings)), placed)
