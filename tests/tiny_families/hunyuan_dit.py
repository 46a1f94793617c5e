"""hunyuan_dit."""

from __future__ import annotations

TINY = {}
