"""Apply TokenCache on ComfyUI's page: one knob in front, settings that have no effect greyed out with the reason, and
found by what people search for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import page_errors
import pytest
from comfy_page import ComfyPage, comfy_page, needs_chromium
from comfy_server import ComfyServer
from node_search import open_search
from playwright.sync_api import expect

ADD = """type => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    node.pos = [60 + 420 * app.graph.nodes.length, 100]
    return node.id
}"""
WIDGETS = """() => {
    const node = app.graph.nodes.find(node => node.type === 'TokenCacheApply')
    return Object.fromEntries(node.widgets.map(widget => [widget.name, {
        label: widget.label ?? widget.name, off: Boolean(widget.disabled), advanced: Boolean(widget.advanced ?? widget.options.advanced),
    }]))
}"""
CONNECT = """([type, input]) => {
    const find = type => app.graph.nodes.find(node => node.type === type)
    find(type).connect(0, find('TokenCacheApply'), input)
}"""
SET = """([type, name, value]) => {
    const widget = app.graph.nodes.find(node => node.type === type).widgets.find(widget => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""
IN_SIGHT = "() => app.graph.nodes[0].widgets.filter(widget => !widget.hidden).map(widget => widget.name)"
HEIGHT = "() => app.graph.nodes[0].size[1]"
PRESS = "() => app.graph.nodes[0].widgets.find(widget => widget.name === 'all_settings').callback()"
BYPASS = """([type, mode]) => {
    app.graph.nodes.find(node => node.type === type).mode = mode
    app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()
}"""
PACK, BLUEPRINT = "comfyui-tokencache|Blueprint", "Speed up my model"
SEARCHED = ("faster", "speed", "accelerate", "cache")
EMPTY = {"version": 0.4, "last_node_id": 0, "last_link_id": 0, "nodes": [], "links": []}
pytestmark = [pytest.mark.server, needs_chromium]


@pytest.fixture(scope="module")
def loaded(comfy_server: ComfyServer) -> Iterator[ComfyPage]:
    with comfy_page(comfy_server) as comfy:
        yield comfy


@pytest.fixture
def comfy(loaded: ComfyPage) -> ComfyPage:
    """With an empty workflow."""
    loaded.open(EMPTY, {})
    return loaded


@pytest.fixture(scope="module")
def search(loaded: ComfyPage) -> ComfyPage:
    """With the search open."""
    loaded.open(EMPTY, {})
    open_search(loaded)
    return loaded


def widgets(comfy: ComfyPage) -> dict[str, dict[str, Any]]:
    comfy.page.wait_for_timeout(50)
    return comfy.page.evaluate(WIDGETS)


def greyed(comfy: ComfyPage) -> set[str]:
    return {name for name, widget in widgets(comfy).items() if widget["off"]}


def test_what_has_no_effect_is_greyed_out_and_says_why(comfy: ComfyPage):
    said = page_errors.listen(comfy.page)
    for kind in ("TokenCacheIStepScheduler", "TokenCacheLoadPreset", "TokenCacheLoadPredictor", "TokenCacheApply"):
        comfy.page.evaluate(ADD, kind)
    first = widgets(comfy)
    assert [name for name, widget in first.items() if not widget["advanced"]] == ["speed_up", "all_settings"]
    assert greyed(comfy) == {"context", "shares"}
    assert first["context"]["label"] == "context: below cache_ratio 1"
    comfy.page.evaluate(SET, ["TokenCacheApply", "cache_ratio", 0.7])
    assert not greyed(comfy) and widgets(comfy)["context"]["label"] == "context"

    comfy.page.evaluate(CONNECT, ["TokenCacheIStepScheduler", "schedule"])
    assert greyed(comfy) == {"speed_up"} and widgets(comfy)["speed_up"]["label"] == "speed_up: by the schedule"
    comfy.page.evaluate(SET, ["TokenCacheIStepScheduler", "policy", "uniform"])
    assert greyed(comfy) == {"speed_up", "calibrate_on_first_run"}
    comfy.page.evaluate(BYPASS, ["TokenCacheIStepScheduler", 4])
    assert not greyed(comfy)

    comfy.page.evaluate(CONNECT, ["TokenCacheLoadPredictor", "predictor"])
    assert greyed(comfy) == {"calibrate_on_first_run"}
    assert widgets(comfy)["speed_up"]["label"] == "speed_up: by the predictor"
    comfy.page.evaluate(CONNECT, ["TokenCacheLoadPreset", "preset"])
    assert greyed(comfy) >= {"speed_up", "corrector"} and "memory_budget_gb" not in greyed(comfy)

    saved = comfy.page.evaluate("() => app.graph.serialize()")
    comfy.open(saved, {})  # as it is opened again
    assert widgets(comfy)["speed_up"] == {"label": "speed_up: by the preset", "off": True, "advanced": False}
    assert not comfy.errors and not said


def test_on_the_canvas_a_button_shows_the_advanced_settings(comfy: ComfyPage):
    comfy.page.evaluate(ADD, "TokenCacheApply")
    assert comfy.page.evaluate(IN_SIGHT) == ["speed_up", "all_settings"]
    height = comfy.page.evaluate(HEIGHT)
    comfy.page.evaluate(PRESS)
    assert len(comfy.page.evaluate(IN_SIGHT)) == 11 and comfy.page.evaluate(HEIGHT) > height + 150
    saved = comfy.page.evaluate("() => app.graph.serialize()")
    (node,) = saved["nodes"]
    assert len(node["widgets_values"]) == 10
    comfy.open(saved, {})
    assert len(comfy.page.evaluate(IN_SIGHT)) == 11
    comfy.page.evaluate(PRESS)
    assert comfy.page.evaluate(HEIGHT) == height and not comfy.errors


def test_nodes_2_shows_the_same(comfy_server: ComfyServer, loaded: ComfyPage):
    comfy_server.post("/settings", {"Comfy.VueNodes.Enabled": True})
    try:
        with comfy_page(comfy_server, beside=loaded) as comfy:
            comfy.open(EMPTY, {})
            for kind in ("TokenCacheIStepScheduler", "TokenCacheApply"):
                comfy.page.evaluate(ADD, kind)
            node = comfy.page.locator("[data-node-id]").filter(has_text="Apply TokenCache")
            expect(node.get_by_text("speed_up", exact=True)).to_be_visible()
            assert not node.get_by_text("forecast_order").count()
            few = node.bounding_box()["height"]
            node.get_by_text("Show advanced inputs").dispatch_event("click")
            expect(node.get_by_text("forecast_order")).to_be_visible()
            assert node.bounding_box()["height"] > few + 100  # they took no room before
            node.get_by_text("Hide advanced inputs").dispatch_event("click")
            comfy.page.evaluate(CONNECT, ["TokenCacheIStepScheduler", "schedule"])
            expect(node.get_by_text("speed_up: by the schedule")).to_be_visible()
            expect(node.locator("input").first).to_be_disabled()
            assert not comfy.errors
    finally:
        comfy_server.post("/settings", {"Comfy.VueNodes.Enabled": False})


@pytest.mark.parametrize("word", SEARCHED)
def test_it_is_the_first_of_the_pack_that_a_search_finds(search: ComfyPage, word: str):
    """Only names that begin with the word come before it: for "speed" its blueprint's, for "cache" the heatmap's."""
    search.page.locator("input:focus").fill(word)
    found = search.page.get_by_role("option").filter(has_text=re.compile(PACK))
    expect(found.filter(has_text=re.compile("^Apply TokenCache"))).to_be_visible()
    first = next(text for text in found.all_text_contents() if not text.lower().startswith(word))
    assert first.startswith("Apply TokenCache")


def test_the_blueprint_is_found_by_its_name(search: ComfyPage):
    search.page.locator("input:focus").fill("speed")
    expect(search.page.get_by_role("option").first).to_contain_text(BLUEPRINT)
