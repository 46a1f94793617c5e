"""kandinsky5."""

from __future__ import annotations

TINY = {}
