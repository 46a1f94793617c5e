"""Applies our own cache to a MODEL of the host, as the node does."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tokencache_core.settings import CacheSettings

from .host_models import PACK


def apply_on_host(model: Any, settings: CacheSettings, i_steps: Sequence[int] | int, **others: Any) -> tuple[Any, Any]:
    """The patched MODEL, and the handle of its reports.

    The pack that `import_host` has loaded has its own copy of the core, so settings are converted.

    i_steps: which steps are I-steps, or how many.
    others: of the pack's `apply_tokencache`.
    """
    hooks, core_settings, schedule = (
        importlib.import_module(f"{PACK}.{name}")
        for name in ("nodes.host.model_hooks", "tokencache_core.settings", "tokencache_core.schedules.schedule")
    )
    placed = schedule.CountSchedule(i_steps) if isinstance(i_steps, int) else schedule.ExplicitSchedule(tuple(i_steps))
    return hooks.apply_tokencache(model, core_settings.CacheSettings(**asdict(settings)), placed, **others)
