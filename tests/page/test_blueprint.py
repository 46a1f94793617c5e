"""The blueprint in subgraphs/: a real ComfyUI lists it, and its page adds it, ready to run, from the search for
nodes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfy_page import comfy_page, needs_chromium
from comfy_server import ComfyServer
from node_search import open_search

NAME = "Speed up my model"  # the file's name is the one that the page shows
FILE = Path(__file__).resolve().parents[2] / "subgraphs" / f"{NAME}.json"
WIDGETS = ["speed_up"]
ADDED = """() => app.graph.nodes.map(node => ({
    title: node.title, inputs: node.inputs.map(input => input.name), outputs: node.outputs.map(output => output.type),
    widgets: Object.fromEntries(node.widgets.map(widget => [widget.name, widget.value])),
    unknown: node.subgraph.nodes.map(inner => inner.type).filter(type => !(type in LiteGraph.registered_node_types)),
}))"""


@pytest.fixture(scope="module")
def subgraph() -> dict[str, Any]:
    blueprint = json.loads(FILE.read_text(encoding="utf-8"))
    (node,), (definition,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    assert node["type"] == definition["id"] and node["title"] == definition["name"] == NAME
    assert not blueprint["links"]
    return definition


def test_both_ends_of_every_link_know_it(subgraph):
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    outer, inner = subgraph["inputNode"]["id"], subgraph["outputNode"]["id"]
    for link in subgraph["links"]:
        source, target = link["origin_id"], link["target_id"]
        output = (subgraph["inputs"] if source == outer else nodes[source]["outputs"])[link["origin_slot"]]
        end = (subgraph["outputs"] if target == inner else nodes[target]["inputs"])[link["target_slot"]]
        assert link["id"] in (output["linkIds"] if source == outer else output["links"])
        assert (link["id"] in end["linkIds"]) if target == inner else (link["id"] == end["link"])
        assert output["type"] == link["type"] == end["type"]
    assert [slot["type"] for slot in subgraph["outputs"]] == ["MODEL", "TOKENCACHE_REPORT"]
    assert [slot["name"] for slot in subgraph["inputs"]] == ["model", *WIDGETS]


@pytest.mark.server
def test_the_server_lists_it(comfy_server: ComfyServer):
    (key,) = [key for key, entry in comfy_server.get("/global_subgraphs").items() if entry["name"] == NAME]
    entry = comfy_server.get(f"/global_subgraphs/{key}")
    assert entry["source"] == "custom_node" and json.loads(entry["data"]) == json.loads(
        FILE.read_text(encoding="utf-8")
    )


@needs_chromium
@pytest.mark.server
def test_the_page_adds_it_and_makes_a_prompt_of_it(comfy_server: ComfyServer, subgraph):
    with comfy_page(comfy_server) as page:
        page.open({"version": 0.4, "last_node_id": 0, "last_link_id": 0, "nodes": [], "links": []}, {})
        canvas = page.page.locator("#graph-canvas")
        open_search(page)
        page.page.keyboard.type(NAME)
        preview = page.page.get_by_text(subgraph["description"]).first
        preview.wait_for()
        page.page.keyboard.press("Enter")
        preview.wait_for(state="hidden")  # now the node hangs at the mouse
        canvas.click(position={"x": 900, "y": 500})
        page.page.wait_for_function("() => app.graph.nodes.length === 1")
        (node,) = page.page.evaluate(ADDED)
        prompt = page.page.evaluate("async () => (await app.graphToPrompt()).output")
        assert not page.errors
    assert node["title"] == NAME and not node["unknown"]
    assert node["inputs"] == ["model", *WIDGETS] and node["outputs"] == ["MODEL", "TOKENCACHE_REPORT"]
    kinds = {inner["class_type"]: (number, inner["inputs"]) for number, inner in prompt.items()}
    _, settings = kinds["TokenCacheApply"]
    assert len(prompt) == 1
    inputs = comfy_server.get("/object_info/TokenCacheApply")["TokenCacheApply"]["input"]
    for name, definition in {**inputs["required"], **inputs["optional"]}.items():
        if isinstance(definition[1], dict) and "default" in definition[1]:
            assert settings[name] == definition[1]["default"], name
    assert node["widgets"] == {"speed_up": 0}
