"""ComfyUI's own page in a real, headless Chromium: a workflow is opened, run and cancelled as a user does it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from comfy_server import ComfyServer
from playwright.sync_api import Page, sync_playwright

CHROMIUM = os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: install the package chromium, or name one with CHROME_PATH")


class ComfyPage:
    """`errors` are those that the page's scripts threw."""

    def __init__(self, page: Page) -> None:
        self.page, self.errors = page, []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, workflow: dict[str, Any], values: dict[str, dict[str, Any]]) -> None:
        """Show the workflow, with the widgets named in `values` (node title -> widget -> value) set."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        for title, widgets in values.items():
            for name, value in widgets.items():
                found = self.page.evaluate(
                    """([title, name, value]) => {
                        const widget = app.graph.nodes.find(n => n.title === title)?.widgets.find(w => w.name === name)
                        if (widget) { widget.value = value; widget.callback?.(value) }
                        return Boolean(widget)
                    }""", [title, name, value],
                )
                assert found, f"{title} has no widget {name}"

    def run(self) -> None:
        self.page.get_by_test_id("queue-button").click()

    def cancel(self) -> None:
        self.page.get_by_label("Cancel current run").click()


@contextmanager
def comfy_page(server: ComfyServer) -> Iterator[ComfyPage]:
    server.post("/settings", {"Comfy.TutorialCompleted": True})   # else a first visit opens the template browser
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = ComfyPage(browser.new_page(viewport={"width": 1600, "height": 1000}))
            page.page.goto(f"http://{server.address}")
            page.page.wait_for_function("window.app?.graph && window.app?.extensionManager", timeout=120_000)
            yield page
        finally:
            browser.close()
