"""Takes pictures of ComfyUI's page: runs a workflow to its end, brings a part of the graph into view, and waits until
the page no longer changes.
"""

from __future__ import annotations

import time
from typing import Any

from comfy_browser import BrowserError, ComfyPage
from comfy_server import ComfyServer
from playwright.sync_api import FloatRect

SETTINGS = {  # of the page: nothing over the graph, no badges on nodes, text at any zoom
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
PAGE = (2000, 1400)
CORNER = (110, 110)  # on the page: right of its side bar, below its tabs
ROOM = (1480, 1230)  # from there to the queue's buttons and to the bottom of the page
MARGIN = 12
RUN_SECONDS = 1800.0
REST_SECONDS = 30.0
FRAMES = 1000.0  # milliseconds until the page's panels have followed the graph
ALONE = """([kind, values]) => {
    app.graph.clear()
    const node = LiteGraph.createNode(kind)
    app.graph.add(node)
    for (const [name, value] of Object.entries(values)) node.widgets.find(widget => widget.name === name).value = value
}"""
TO_VIEW = """([kind, corner, room]) => {
    const found = kind ? app.graph.nodes.filter(node => node.type === kind).slice(0, 1) : app.graph.nodes
    if (!found.length) return null
    const boxes = found.map(item => { item.updateArea?.(); return item.boundingRect })
    const left = Math.min(...boxes.map(box => box[0])), top = Math.min(...boxes.map(box => box[1]))
    const width = Math.max(...boxes.map(box => box[0] + box[2])) - left, height = Math.max(...boxes.map(box => box[1] + box[3])) - top
    const scale = Math.min(1, room[0] / width, room[1] / height)
    const canvas = app.canvas.canvas.getBoundingClientRect()
    app.canvas.ds.scale = scale
    app.canvas.ds.offset = [(corner[0] - canvas.x) / scale - left, (corner[1] - canvas.y) / scale - top]
    app.canvas.deselectAll?.()
    app.canvas.setDirty(true, true)
    return { x: corner[0], y: corner[1], width: width * scale, height: height * scale }
}"""
SOCKETS = """kind => {
    const node = app.graph.nodes.find(node => node.type === kind)
    return [node.inputs, node.outputs].map(sockets => sockets.map(socket => socket.name).sort().join(", ")).join(" -> ")
}"""
LACKING = """() => app.graph.nodes.flatMap(node => (node.widgets ?? []).filter(widget => widget.type === 'combo').filter(widget => {
    const values = typeof widget.options.values === 'function' ? widget.options.values(widget, node) : widget.options.values
    return Array.isArray(values) && !values.includes(widget.value)
}).map(widget => String(widget.value)))"""


def open_alone(comfy: ComfyPage, kind: str, values: dict[str, Any]) -> None:
    """Open a graph of only one node, with these widgets set."""
    comfy.page.evaluate(ALONE, [kind, values])


def lacking_files(comfy: ComfyPage) -> list[str]:
    """The files that the workflow on the page chooses but that their lists do not have: weights that are missing."""
    return comfy.page.evaluate(LACKING)


def outputs_of_a_run(comfy: ComfyPage, server: ComfyServer) -> dict[str, Any]:
    """Run the workflow; returns the nodes' outputs by number. Files that it leaves in models/tokencache are removed."""
    folder = server.models / "tokencache"
    before = set(folder.glob("*"))
    try:
        run = comfy.run_to_the_end(server, RUN_SECONDS)
    finally:
        for file in set(folder.glob("*")) - before:
            file.unlink()
    if run["status"]["status_str"] != "success":
        raise BrowserError(f"The run failed; the end of the server's log:\n{server.log_tail()}")
    return run["outputs"]


def bring_to_view(comfy: ComfyPage, kind: str = "") -> dict[str, float]:
    """Bring the first node of a kind, or all nodes into view; returns the box, in pixels."""
    box = comfy.page.evaluate(TO_VIEW, [kind, CORNER, ROOM])
    if box is None:
        raise BrowserError(f"The workflow on the page has no node {kind}: look into its JSON file.")
    comfy.page.wait_for_timeout(FRAMES)
    return box


def picture_of(comfy: ComfyPage, kind: str = "") -> bytes:
    """A PNG of the first node of a kind, or of all nodes."""
    box = bring_to_view(comfy, kind)
    clip: FloatRect = {
        "x": box["x"] - MARGIN,
        "y": box["y"] - MARGIN,
        "width": box["width"] + 2 * MARGIN,
        "height": box["height"] + 2 * MARGIN,
    }
    return _at_rest(comfy, clip)


def sockets_of(comfy: ComfyPage, kind: str) -> str:
    """The names of the inputs and outputs of the first node of a kind, as text."""
    return comfy.page.evaluate(SOCKETS, kind)


def picture_of_panel(comfy: ComfyPage, kind: str) -> bytes:
    """A PNG of only the panel in the first node of a kind."""
    bring_to_view(comfy, kind)
    panel = comfy.page.evaluate_handle(
        "kind => app.graph.nodes.find(node => node.type === kind).widgets.find(widget => widget.element)?.element", kind
    )
    element = panel.as_element()
    if element is None:
        raise BrowserError(f"{kind} has no panel on the page: did its script load?")
    box = element.bounding_box()
    if box is None:
        raise BrowserError(f"The panel of {kind} is not visible on the page, although its node is.")
    return _at_rest(comfy, box)


def _at_rest(comfy: ComfyPage, clip: FloatRect) -> bytes:
    """A screenshot, as soon as two in a row are equal: then everything is drawn, including pictures."""
    before, give_up = b"", time.monotonic() + REST_SECONDS
    while time.monotonic() < give_up:
        time.sleep(0.7)
        now = comfy.page.screenshot(clip=clip)
        if now == before:
            return now
        before = now
    raise BrowserError(f"The page was still changing after {REST_SECONDS:.0f} s.")
