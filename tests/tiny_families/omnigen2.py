"""omnigen2."""

from __future__ import annotations

TINY = {}
