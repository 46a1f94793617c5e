"""ComfyUI's own page for tests, which are skipped where there is no Chromium."""

from __future__ import annotations

import pytest
from chromium import HOW
from comfy_browser import CHROMIUM, ComfyPage, comfy_page
from playwright.sync_api import expect

__all__ = ["ComfyPage", "comfy_page", "needs_chromium"]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason=f"needs Chromium: {HOW}")
expect.set_options(timeout=60_000)  # milliseconds, since other tests may keep the machine busy
