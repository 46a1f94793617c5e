"""Nodes 2.0, where nodes are elements of the page: in every example workflow none covers another, even while all show
their advanced inputs, and reasons are not cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_page import needs_chromium
from comfy_server import ComfyServer
from workflow_page import OPEN, SHOWS, SMALL, WorkflowPage, workflow_page
from workflow_to_api import read_workflow

import locales
from example_workflows import for_every_workflow

MILLISECONDS = 10_000
COVERED = """() => {
    const scale = app.canvas.ds.scale
    const drawn = app.graph.nodes.map(node => [node.title, document.querySelector(`[data-node-id="${node.id}"]`)])
    if (!drawn.every(([, element]) => element)) return [["not all are drawn yet"]]
    const boxes = drawn.map(([title, element]) => {
        const { left, top, right, bottom } = element.getBoundingClientRect()
        return [title, left, top, right, bottom]
    })
    return boxes.flatMap(a => boxes.filter(b => a[1] < b[3] - scale && b[1] < a[3] - scale && a[2] <= b[2] && b[2] < a[4] - scale && a !== b)
        .map(b => [a[0], b[0]]))
}"""
SHOW_ADVANCED = """() => {
    for (const button of document.querySelectorAll('[data-testid="advanced-inputs-button"]')) button.click()
}"""
# titles of nodes that still hide some
HIDING = """() => app.graph.nodes
    .filter(node => !node.showAdvanced && node.widgets?.some(widget => widget.options?.advanced)).map(node => node.title)"""
# a new Apply TokenCache behind an I-Step Scheduler, which decides two of its settings
SCHEDULED = """() => {
    app.graph.clear()
    const made = ['TokenCacheIStepScheduler', 'TokenCacheApply'].map((kind, place) => {
        const node = LiteGraph.createNode(kind)
        app.graph.add(node)
        node.pos = [400 * place, 0]
        return node
    })
    made[0].connect(0, made[1], 'schedule')
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [100, 100]
    app.canvas.setDirty(true, true)
}"""
LABELS = """() => [...document.querySelectorAll('[data-node-id] [data-testid="widget-layout-field-label"]')]
    .map(label => [label.textContent.trim(), label.scrollWidth <= label.clientWidth])"""
pytestmark = [pytest.mark.server, needs_chromium]


@pytest.fixture(scope="module", params=["en", "zh"])
def language(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def nodes_2(comfy_server: ComfyServer, language: str) -> Iterator[WorkflowPage]:
    comfy_server.post("/settings", {"Comfy.VueNodes.Enabled": True, "Comfy.Locale": language})
    try:
        with workflow_page(comfy_server) as page:
            page.page.set_viewport_size(SMALL)
            yield page
    finally:
        comfy_server.post("/settings", {"Comfy.VueNodes.Enabled": False, "Comfy.Locale": "en"})


@for_every_workflow
def test_in_nodes_2_no_node_covers_another(nodes_2: WorkflowPage, file: Path):
    """There a node is as high as what it holds: longer names of inputs take two lines, and at its end is the pack's."""
    workflow = read_workflow(file)
    nodes_2.page.evaluate(OPEN, [workflow, file.stem])
    nodes_2.page.wait_for_function(SHOWS, arg=[node["id"] for node in workflow["nodes"]])
    check_none_covers_another(nodes_2)
    nodes_2.page.evaluate(SHOW_ADVANCED)
    nodes_2.page.wait_for_function(f"() => !({HIDING})().length", timeout=MILLISECONDS)
    check_none_covers_another(nodes_2)


def check_none_covers_another(nodes_2: WorkflowPage) -> None:
    nodes_2.page.wait_for_timeout(500)
    nodes_2.page.wait_for_function(f"() => !({COVERED})().length", timeout=MILLISECONDS)


def test_in_nodes_2_the_reason_beside_a_setting_is_not_cut_off(nodes_2: WorkflowPage, language: str):
    nodes_2.page.evaluate(SCHEDULED)
    texts = locales.texts(locales.FOLDER / language)
    reason = ": ".join(
        [texts["nodeDefs.TokenCacheApply.inputs.speed_up.name"], texts[f"{locales.PANELS}.overridden_by_schedule"]]
    )
    nodes_2.page.wait_for_function(
        f"reason => ({LABELS})().some(([words]) => words === reason)", arg=reason, timeout=MILLISECONDS
    )
    nodes_2.page.wait_for_function(f"() => ({LABELS})().every(([, fits]) => fits)", timeout=MILLISECONDS)
