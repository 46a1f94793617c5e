"""The page's search for nodes."""

from __future__ import annotations

from comfy_page import ComfyPage
from playwright.sync_api import TimeoutError as NotInTime


def open_search(comfy: ComfyPage, tries: int = 3) -> None:
    """Double-click the canvas until the search box has the keyboard: where the page is slow, it takes the two clicks
    for single ones.
    """
    for left in reversed(range(tries)):
        comfy.page.locator("#graph-canvas").dblclick(position={"x": 800, "y": 500})
        try:
            comfy.page.locator("input:focus").wait_for(timeout=10_000)
            return
        except NotInTime:
            if not left:
                raise
