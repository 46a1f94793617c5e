"""Every example workflow in Nodes 2.0, where nodes are elements of the page: none covers another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_page import needs_chromium
from comfy_server import ComfyServer
from workflow_page import OPEN, SHOWS, SMALL, WorkflowPage, workflow_page
from workflow_to_api import read_workflow

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
pytestmark = [pytest.mark.server, needs_chromium]


@pytest.fixture(scope="module")
def nodes_2(comfy_server: ComfyServer) -> Iterator[WorkflowPage]:
    comfy_server.post("/settings", {"Comfy.VueNodes.Enabled": True})
    try:
        with workflow_page(comfy_server) as page:
            page.page.set_viewport_size(SMALL)
            yield page
    finally:
        comfy_server.post("/settings", {"Comfy.VueNodes.Enabled": False})


@for_every_workflow
def test_in_nodes_2_no_node_covers_another(nodes_2: WorkflowPage, file: Path):
    """There a node is as high as what it holds, with the pack's name at its end."""
    workflow = read_workflow(file)
    nodes_2.page.evaluate(OPEN, [workflow, file.stem])
    nodes_2.page.wait_for_function(SHOWS, arg=[node["id"] for node in workflow["nodes"]])
    nodes_2.page.wait_for_timeout(500)
    nodes_2.page.wait_for_function(f"() => !({COVERED})().length", timeout=MILLISECONDS)
