"""hunyuan_video."""

from __future__ import annotations

TINY = {}
