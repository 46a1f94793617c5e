"""sd3."""

from __future__ import annotations

TINY = {}
