"""The language of ComfyUI's page is switched while a workflow is open: panels follow at once, nodes when it is
reloaded, and back.
"""

from __future__ import annotations

import json
import re
from typing import Any

import page_errors
import pytest
from comfy_page import ComfyPage, comfy_page, needs_chromium
from comfy_server import ComfyServer
from playwright.sync_api import Page, expect

import locales

PANELS = {
    "TokenCacheReport": "report",
    "TokenCacheHeatmap": "heatmap",
    "TokenCacheTrainPredictor": "training",
    "TokenCacheCompare": "compare",
}
SECONDS = 60_000
SWITCH = "language => app.extensionManager.setting.set('Comfy.Locale', language)"
ADD = """types => {
    for (const [place, type] of types.entries()) {
        const node = LiteGraph.createNode(type)
        app.graph.add(node)
        node.pos = [4000 + 500 * place, 0]
    }
    app.canvas.ds.scale = 0.6
    app.canvas.ds.offset = [-3950, 60]
    app.canvas.setDirty(true, true)
}"""
NO_TITLES = """async () => {
    const graph = app.graph.serialize()
    for (const node of graph.nodes) delete node.title
    await app.loadGraphData(graph)
}"""
SHOWN = """type => {
    const node = app.graph.nodes.find(node => node.type === type)
    const slots = [...node.inputs, ...node.outputs]
    return {
        title: node.title, labels: (node.widgets ?? []).map(widget => widget.label).filter(Boolean),
        slots: slots.map(slot => slot.localized_name), description: node.constructor.nodeData.description,
    }
}"""
OUTPUT = "([type, output]) => app.graph.nodes.find(node => node.type === type).onExecuted(output)"
REPORT = {
    "speedup": 2.0,
    "compute": 0.36,
    "seconds": 1.5,
    "kinds": "IPP",
    "milliseconds": [3.0, 1.0, 1.0],
    "memory": "1.0 MB",
    "warnings": [],
    "text": "-",
}
RUN = {
    "version": 1,
    "blocks": 2,
    "images": 1,
    "frames": [0],
    "legend": ["forecast", "computed"],
    "grid": [1, 1, 2],
    "notes": [],
    "steps": [{"index": 0, "kind": "I", "seconds": 1.0, "sigma": 1.0, "compute": 1.0, "groups": [[0, 1, "all"]]}],
    "maps": {"form": "bytes", "count": 0, "data": "eJwDAAAAAAE="},  # zlib of nothing
}


def read(language: str, name: str) -> dict[str, Any]:
    return json.loads((locales.FOLDER / language / name).read_text(encoding="utf-8"))


def filled(text: str) -> re.Pattern[str]:
    """The text with anything in the places of its values."""
    return re.compile(r"[^{}]+".join(map(re.escape, re.split(r"\{\w+\}", text))))


def nodes_speak(page: Page, language: str) -> None:
    for node, wanted in read(language, "nodeDefs.json").items():
        if node not in PANELS:
            continue
        shown = page.evaluate(SHOWN, node)
        names = {text["name"] for text in wanted["inputs"].values()}
        assert shown["title"] == wanted["display_name"]
        assert names <= {*shown["labels"], *shown["slots"]}
        assert shown["description"] == wanted["description"]


def tooltip_speaks(page: Page, language: str) -> None:
    """Over the node's first output, where the page shows the slot's tooltip."""
    wanted = read(language, "nodeDefs.json")["TokenCacheReport"]["outputs"]["0"]["tooltip"]
    place = page.evaluate("""() => {
        const node = app.graph.nodes.find(node => node.type === 'TokenCacheReport')
        const at = node.getOutputPos(0), {scale, offset} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect()
        return [box.left + (at[0] + offset[0]) * scale, box.top + (at[1] + offset[1]) * scale]
    }""")
    page.mouse.move(place[0] + 40, place[1] + 200)
    page.mouse.move(place[0], place[1], steps=3)
    expect(page.get_by_text(wanted, exact=True)).to_be_visible(timeout=SECONDS)


def panels_speak(page: Page, language: str) -> None:
    words = read(language, "main.json")[locales.PANELS]
    panels = {kind: page.get_by_role("group", name=words[f"{kind}_label"], exact=True) for kind in PANELS.values()}
    for kind, panel in panels.items():
        expect(panel).to_contain_text(words[f"{kind}_empty"], timeout=SECONDS)
    page.evaluate(OUTPUT, ["TokenCacheReport", {"tokencache_report": [REPORT]}])
    page.evaluate(OUTPUT, ["TokenCacheHeatmap", {"tokencache_player": [RUN], "tokencache_pictures": []}])
    for word in ("report_estimate", "report_steps", "report_memory", "copy"):
        expect(panels["report"]).to_contain_text(filled(words[word]))
    expect(panels["report"].locator(".left")).to_have_attribute("title", words["report_estimate_tooltip"])
    expect(panels["report"].locator(".bars")).to_have_attribute("title", filled(words["report_bars"]))
    page.evaluate(OUTPUT, ["TokenCacheReport", {"tokencache_report": [REPORT | {"plain_seconds": 4.5}]}])
    expect(panels["report"].locator(".big")).to_contain_text("3.00x")  # in place of the estimate
    expect(panels["report"]).to_contain_text(words["report_measured"])
    expect(panels["report"].locator(".left")).to_have_attribute("title", words["report_measured_tooltip"])
    for word in ("player_step_of", "player_computed", "player_forecast", "player_opacity"):
        expect(panels["heatmap"]).to_contain_text(filled(words[word]))
    expect(panels["heatmap"].get_by_role("button", name=words["player_play"], exact=True)).to_be_visible()


@needs_chromium
@pytest.mark.server
def test_nodes_and_panels_follow_the_language(comfy_server: ComfyServer):
    comfy_server.post("/settings", {"Comfy.Locale": "en"})
    try:
        with comfy_page(comfy_server) as comfy:
            page, said = comfy.page, page_errors.listen(comfy.page)
            open_nodes(comfy)
            for language in ("en", "zh", "en"):
                page.evaluate(SWITCH, language)
                panels_speak(page, language)
                comfy.reload()  # the host's own nodes need it, too; it opens the same workflow
                panels_speak(page, language)
                nodes_speak(page, language)
                tooltip_speaks(page, language)
            assert not comfy.errors and not said, "\n".join([*comfy.errors, *said])
    finally:
        comfy_server.post("/settings", {"Comfy.Locale": "en"})


@needs_chromium
@pytest.mark.server
def test_without_translations_the_panels_speak_english(comfy_server: ComfyServer):
    """A language that the pack has not, and a server that answers nothing."""
    words = read("en", "main.json")[locales.PANELS]
    try:
        for language, reachable in (("fr", True), ("zh", False)):
            comfy_server.post("/settings", {"Comfy.Locale": language})
            with comfy_page(comfy_server) as comfy:
                open_nodes(comfy)
                if not reachable:
                    comfy.page.route("**/i18n", lambda route: route.abort())
                    comfy.reload()
                expect(comfy.page.get_by_role("group", name=words["report_label"])).to_contain_text(
                    words["report_empty"], timeout=SECONDS
                )
    finally:
        comfy_server.post("/settings", {"Comfy.Locale": "en"})


def open_nodes(comfy: ComfyPage) -> None:
    """As a workflow of its own, which the page opens again when it switches."""
    comfy.open(
        {
            "version": 0.4,
            "last_node_id": 0,
            "last_link_id": 0,
            "nodes": [],
            "links": [],
            "groups": [],
            "config": {},
            "extra": {},
        },
        {},
    )
    comfy.page.evaluate(ADD, list(PANELS))
    comfy.page.evaluate(NO_TITLES)
