"""mochi."""

from __future__ import annotations

TINY = {}
