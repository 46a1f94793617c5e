"""ComfyUI's own page in a real, headless Chromium: opens, runs and cancels workflows as a user does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from chromium import HOW, chromium
from comfy_server import ComfyServer
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = chromium()
PATIENCE = 120_000  # milliseconds, for a busy machine
LOADED = "() => window.app?.extensionManager?.spinner === false"  # it has opened its first workflow


class BrowserError(RuntimeError):
    """There is no Chromium, or the page lacks something; the message says what to do."""


class ComfyPage:
    """ComfyUI's page. errors: thrown by the page's scripts so far."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def visit(self, address: str) -> None:
        """Load the page, and wait until it shows the workflow that it opens with."""
        self.page.goto(address)
        self.page.wait_for_function(LOADED)

    def reload(self) -> None:
        """Load the page again, and wait until it shows the workflow that it showed before."""
        self.page.reload()
        self.page.wait_for_function(LOADED)

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
                    }""",
                    [title, name, value],
                )
                if not found:
                    raise BrowserError(
                        f"The workflow on the page has no node '{title}' with a widget '{name}': look up both in its "
                        "JSON file."
                    )

    def run(self) -> None:
        self.page.get_by_test_id("queue-button").click()

    def run_to_the_end(self, server: ComfyServer, seconds: float) -> dict[str, Any]:
        """Press the run button; returns the server's record of the run. BrowserError if it does not end in time."""
        before, give_up = server.get("/history").keys(), time.monotonic() + seconds
        self.run()
        while not (ended := server.get("/history").keys() - before):
            if time.monotonic() > give_up:
                raise BrowserError(
                    f"The run did not end in {seconds:.0f} s; the end of the server's log:\n{server.log_tail()}"
                )
            self.page.wait_for_timeout(200)  # unlike time.sleep, it lets the page's events through
        (key,) = ended
        return server.get("/history")[key]

    def cancel(self) -> None:
        self.page.get_by_label("Cancel current run").click()


def browser_program() -> str:
    """The Chromium to start; BrowserError if there is none."""
    if CHROMIUM is None or shutil.which(CHROMIUM) is None:
        missing = f"CHROME_PATH is {CHROMIUM}, which is not a program" if CHROMIUM else "There is no Chromium here"
        raise BrowserError(f"{missing}: {HOW}.")
    return CHROMIUM


@contextmanager
def _own_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_program(), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def comfy_page(
    server: ComfyServer,
    *,
    size: tuple[int, int] = (1600, 1000),
    sharpness: float = 1.0,
    beside: ComfyPage | None = None,
) -> Iterator[ComfyPage]:
    """While open, the server's page in a browser.

    size: of the page, in pixels.
    sharpness: a screenshot's pixels per pixel of the page.
    beside: a page in whose browser to open this one, without its data; only one browser can run at a time.
    """
    server.post("/settings", {"Comfy.TutorialCompleted": True})  # else a first visit opens the template browser
    with _own_browser() if beside is None else nullcontext(beside.page.context.browser) as browser:
        assert browser is not None
        page = ComfyPage(
            browser.new_page(viewport={"width": size[0], "height": size[1]}, device_scale_factor=sharpness)
        )
        page.page.set_default_timeout(PATIENCE)
        try:
            page.visit(f"http://{server.address}")
            yield page
        finally:
            page.page.close()
