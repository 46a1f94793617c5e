"""The help page of every node, opened in ComfyUI's page as a user does it, in English and Chinese: its text and its
picture are there.
"""

from __future__ import annotations

from pathlib import Path

import page_errors
import pytest
from comfy_page import comfy_page, needs_chromium
from comfy_server import ComfyServer
from playwright.sync_api import Page, expect

HELP = Path(__file__).resolve().parents[2] / "web" / "docs"
SECONDS = 30_000
ALONE = """kind => {
    app.canvas.deselectAll()
    app.graph.clear()
    const node = LiteGraph.createNode(kind)
    app.graph.add(node)
    node.pos = [0, 0]
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [300, 200]
    app.canvas.setDirty(true, true)
}"""
TITLE = {"x": 400, "y": 185}  # where its title then is


def check_help(page: Page, kind: str, file: Path) -> None:
    title, _, text = file.read_text(encoding="utf-8").partition("\n")
    page.evaluate(ALONE, kind)
    page.locator("#graph-canvas").click(position=TITLE)
    shown = page.locator(".node-help-content")
    if not shown.is_visible():  # it stays open from one node to the next
        page.get_by_test_id("info-button").click()
    expect(shown.get_by_role("heading", level=1)).to_have_text(title.removeprefix("# "), timeout=SECONDS)
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert shown.get_by_role("heading", level=2).all_text_contents() == headings
    assert "**" not in shown.inner_text()  # a mark that the page did not understand
    picture = shown.get_by_role("img")
    assert picture.get_attribute("src").endswith(f"/docs/images/{kind}.png")
    page.wait_for_function(
        "image => image.complete && image.naturalWidth > 0", arg=picture.element_handle(), timeout=SECONDS
    )


@needs_chromium
@pytest.mark.server
def test_every_node_has_a_help_page_with_its_picture(comfy_server: ComfyServer):
    kinds = {
        kind
        for kind, node in comfy_server.get("/object_info").items()
        if node["python_module"].startswith("custom_nodes.")
    }
    files = sorted(HELP.glob("*.md"))
    assert {file.stem for file in files} == kinds
    with comfy_page(comfy_server) as comfy:
        said = page_errors.listen(comfy.page)
        for file in files:
            check_help(comfy.page, file.stem, file)
        assert not comfy.errors
        # the page looks for help in its own language first
        assert not [text for text in said if not text.endswith("/en.md")]


@needs_chromium
@pytest.mark.server
def test_in_chinese_they_are_chinese(comfy_server: ComfyServer):
    comfy_server.post("/settings", {"Comfy.Locale": "zh"})
    try:
        with comfy_page(comfy_server) as comfy:
            said = page_errors.listen(comfy.page)
            for file in sorted(HELP.glob("*/zh.md")):
                check_help(comfy.page, file.parent.name, file)
            assert not comfy.errors and not said
    finally:
        comfy_server.post("/settings", {"Comfy.Locale": "en"})
