"""stable_audio."""

from __future__ import annotations

TINY = {}
