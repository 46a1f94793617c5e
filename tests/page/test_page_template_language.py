"""The templates in Chinese on ComfyUI's page: their notes and titles follow its language, there and back, and what a
user has written stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_errors
import pytest
from comfy_page import ComfyPage, comfy_page, needs_chromium
from comfy_server import ComfyServer
from workflow_page import OPEN, SHOWS
from workflow_to_api import read_workflow

import locales
from example_workflows import FOLDER, for_every_workflow

QUICK = "Quick start, the same pictures faster"
SWITCH = "language => app.extensionManager.setting.set('Comfy.Locale', language)"
WRITTEN = """() => Object.fromEntries(app.graph.nodes.map(node => [
    node.id, [node.title, node.type === 'MarkdownNote' ? node.widgets[0].value : null]
]))"""
SAVED = "() => app.graph.serialize()"
# whether the page takes the workflow for one that was changed since it was opened
CHANGED = """() => {
    const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker
    tracker.checkState()
    return tracker.undoQueue.length > 0
}"""
RENDERED = "() => app.graph.nodes.find(node => node.type === 'MarkdownNote').widgets[0].element.textContent"
pytestmark = [pytest.mark.server, needs_chromium]

Written = dict[str, tuple[str, str | None]]  # title, and of a note its text, by node


@pytest.fixture(scope="module")
def chinese(comfy_server: ComfyServer) -> Iterator[ComfyPage]:
    comfy_server.post("/settings", {"Comfy.Locale": "zh"})
    try:
        with comfy_page(comfy_server) as comfy:
            yield comfy
    finally:
        comfy_server.post("/settings", {"Comfy.Locale": "en"})


def texts(language: str, kind: str) -> dict[str, str]:
    return json.loads((locales.FOLDER / language / "main.json").read_text(encoding="utf-8"))[kind]


def open_template(comfy: ComfyPage, workflow: dict[str, Any], name: str) -> Written:
    comfy.page.evaluate(OPEN, [workflow, name])
    comfy.page.wait_for_function(SHOWS, arg=[node["id"] for node in workflow["nodes"]])
    return comfy.page.evaluate(WRITTEN)


def translated(workflow: dict[str, Any], language: str) -> Written:
    """What stands in the nodes that have a title of their own, all notes among them, in another language."""
    said = {
        english: texts(language, kind)[key]
        for kind in (locales.NOTES, locales.TITLES)
        for key, english in texts(locales.ENGLISH, kind).items()
    }
    return {
        str(node["id"]): [said[node["title"]], said[node["widgets_values"][0]] if "Note" in node["type"] else None]
        for node in workflow["nodes"]
        if node.get("title")
    }


@for_every_workflow
def test_a_template_opens_in_chinese(chinese: ComfyPage, file: Path):
    workflow = read_workflow(file)
    shown = open_template(chinese, workflow, file.stem)
    wanted = translated(workflow, "zh")
    assert wanted and wanted.items() <= shown.items()
    rendered = chinese.page.evaluate(RENDERED)
    assert rendered and "**" not in rendered and "](" not in rendered  # Markdown that is not understood


def test_what_a_user_has_written_stays(chinese: ComfyPage):
    workflow = read_workflow(FOLDER / f"{QUICK}.json")
    note, *others = (node for node in workflow["nodes"] if node.get("title"))
    note["widgets_values"][0] += "\n\nMy own remark."
    note["title"], others[0]["title"] = "My note", "Press Run!"
    shown = open_template(chinese, workflow, QUICK)
    assert shown[str(others[1]["id"])][0] == texts("zh", locales.TITLES)[others[1]["title"]]
    assert shown[str(note["id"])] == ["My note", note["widgets_values"][0]]
    assert shown[str(others[0]["id"])] == ["Press Run!", None]


def test_the_language_can_be_switched_back(chinese: ComfyPage):
    said = page_errors.listen(chinese.page)
    workflow = read_workflow(FOLDER / f"{QUICK}.json")
    in_chinese = open_template(chinese, workflow, QUICK)
    assert in_chinese.items() >= translated(workflow, "zh").items()
    assert not chinese.page.evaluate(CHANGED)
    saved = chinese.page.evaluate(SAVED)
    chinese.page.evaluate(SWITCH, "en")
    try:
        english = {str(node["id"]): node["title"] for node in workflow["nodes"] if node.get("title")}
        expect_titles(chinese, english)  # the page opens the workflow again
        assert not chinese.page.evaluate(CHANGED)
        shown = open_template(chinese, saved, QUICK)  # one that was saved in Chinese
        assert {node: shown[node][0] for node in english} == english
        notes = {node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"}
        assert notes == {note for _, note in shown.values() if note}
    finally:
        chinese.page.evaluate(SWITCH, "zh")
    expect_titles(chinese, {node: title for node, (title, _) in in_chinese.items()})
    assert not chinese.errors and not said


def expect_titles(comfy: ComfyPage, titles: dict[str, str]) -> None:
    comfy.page.wait_for_function(
        "titles => Object.entries(titles).every(([id, title]) => app.graph.getNodeById(id)?.title === title)",
        arg=titles,
    )
