"""Other caches of full steps on the same MODEL, which the report names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...tokencache_core.words.message import say

_NAMES = {"easycache": "EasyCache", "lazycache": "LazyCache"}  # by the key of the host's wrappers


def other_caches(transformer_options: Mapping[str, Any]) -> str | None:
    """A note for the report of a run with these options; None if there is no other cache."""
    keys = {key for by_key in transformer_options.get("wrappers", {}).values() for key in by_key}
    names = [name for key, name in _NAMES.items() if key in keys]
    if not names:
        return None
    return say(
        "note_other_caches",
        "{names} may skip steps of this run as well: then I-steps lack what forecasts are made from, and what it saves "
        "is not in these figures. Use one cache at a time",
        names=" + ".join(names),
    )
