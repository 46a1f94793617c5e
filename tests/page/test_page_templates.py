"""The example workflows in the template browser of ComfyUI's page, with their thumbnails; one is opened from there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import page_errors
import pytest
from comfy_location import pack_entry
from comfy_page import comfy_page, needs_chromium
from comfy_server import ComfyServer
from playwright.sync_api import expect

from example_workflows import EVERY, FOLDER, for_every_workflow

OPENED = "Quick start, the same pictures faster"
SECONDS = 30_000
NEW_ID = re.compile(r"(?!0{8})[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FETCHED = re.compile("^blob:")  # a picture that is missing is replaced by one of the page's own


@for_every_workflow
def test_every_copy_of_a_template_is_a_workflow_of_its_own(file: Path):
    """The page gives one without an id its own; with one, a fresh copy would show the runs of all others."""
    assert "id" not in json.loads(file.read_text(encoding="utf-8"))


@for_every_workflow
def test_a_templates_name_is_one_that_people_read(file: Path):
    """The page shows a pack's templates under their files' names, and fetches them by these."""
    assert re.fullmatch(r"[A-Z][A-Za-z0-9 .,-]{9,39}", file.stem)


@needs_chromium
@pytest.mark.server
def test_all_workflows_are_in_the_template_browser_and_open_from_there(comfy_server: ComfyServer):
    with comfy_page(comfy_server) as comfy:
        said = page_errors.listen(comfy.page)
        comfy.page.get_by_role("button", name="Templates").first.click()
        browser = comfy.page.get_by_role("dialog")
        browser.get_by_role("navigation").get_by_text(pack_entry(comfy_server.comfyui), exact=True).click()
        names = {file.stem for file in EVERY}
        for name in sorted(names):
            card = browser.get_by_test_id(f"template-workflow-{name}")
            card.scroll_into_view_if_needed(timeout=SECONDS)
            thumbnail = card.get_by_role("img").first
            expect(thumbnail).to_have_attribute("src", FETCHED, timeout=SECONDS)
            comfy.page.wait_for_function(
                "image => image.complete && image.naturalWidth > 0", arg=thumbnail.element_handle(), timeout=SECONDS
            )
            expect(card).to_contain_text(name)
        assert browser.locator("[data-testid^=template-workflow-]").count() == len(names)
        browser.get_by_test_id(f"template-workflow-{OPENED}").click()
        wanted = sorted(
            node["type"] for node in json.loads((FOLDER / f"{OPENED}.json").read_text(encoding="utf-8"))["nodes"]
        )
        comfy.page.wait_for_function(
            "wanted => app.graph.nodes.map(node => node.type).sort().join() === wanted",
            arg=",".join(wanted),
            timeout=SECONDS,
        )
        expect(browser).to_be_hidden()
        assert NEW_ID.fullmatch(comfy.page.evaluate("() => app.rootGraph.id"))
        assert not comfy.errors and not said
