"""qwen_image."""

from __future__ import annotations

TINY = {}
