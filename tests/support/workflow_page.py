"""Workflows on ComfyUI's page: opened, looked at, and run to their end by its own button."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import page_errors
from comfy_page import ComfyPage, comfy_page
from comfy_server import ComfyServer
from playwright.sync_api import Page
from tiny_dit import tiny_dit_file
from tiny_flux_model import tiny_text_to_image

from tokencache_core.flux.file import save_flux

SECONDS = 120
PROMPTS = "red cat\ngreen dog"  # a line for each of two pictures, in words that the tiny flow model knows
# in the place of a workflow's own values: of those with the DiT, and of those with the flow model
TINY = {"Load DiT": {"dit_name": "tiny_of_workflows.safetensors"}, "Empty pixel latent": {"batch_size": 2}}
TINY_FLOW = {
    "Load Small Flux": {"model_name": "tiny_flow_of_workflows.safetensors"},
    "Empty pixel latent": {"width": 32, "height": 32, "batch_size": 2},
}
OPEN = "([workflow, name]) => app.loadGraphData(workflow, true, true, name, {openSource: 'template'})"
SHOWS = "ids => app.graph.nodes.length === ids.length && ids.every(id => app.graph.getNodeById(id))"
SMALL = {"width": 1366, "height": 768}  # a small screen, in pixels
IN_SIGHT = """() => {
    app.canvas.ds.scale = 0.4
    app.canvas.ds.offset = [200, 600]
    app.canvas.setDirty(true, true)
}"""
NODES = """() => app.graph.nodes.map(node => ({
    type: node.type, title: node.title, known: node.type in LiteGraph.registered_node_types, box: [...node.boundingRect],
    widgets: Object.fromEntries((node.widgets ?? []).filter(widget => widget.serialize !== false).map(widget => [widget.name, widget.value])),
}))"""


def tiny_model(server: ComfyServer, name: str, **shape: Any) -> None:
    """Puts a DiT of nine classes, by number, where the server finds it."""
    folder = server.output / "diffusion_models"  # ComfyUI looks for models there too
    folder.mkdir(exist_ok=True)
    tiny_dit_file(folder / name, in_channels=3, input_size=32, num_classes=9, **shape)


def tiny_flow_model(server: ComfyServer, name: str, **shape: Any) -> None:
    """Puts a flow model of six words where the server finds it."""
    folder = server.output / "diffusion_models"
    folder.mkdir(exist_ok=True)
    save_flux(tiny_text_to_image(**shape), folder / name, licence="none")


class WorkflowPage:
    """The page, with all of the workflow in sight."""

    def __init__(self, comfy: ComfyPage, server: ComfyServer) -> None:
        self.comfy, self.server = comfy, server
        self.page: Page = comfy.page
        self.said = page_errors.listen(self.page)

    def open(self, workflow: dict[str, Any], values: dict[str, dict[str, Any]] | None = None) -> None:
        """values: node title -> widget -> value, in the place of the file's."""
        self.comfy.open(workflow, values or {})
        self.page.evaluate(IN_SIGHT)

    def nodes(self) -> list[dict[str, Any]]:
        return self.page.evaluate(NODES)

    def prompt(self) -> dict[str, dict[str, Any]]:
        """What the page would send to the server."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def run(self) -> dict[str, Any]:
        """The server's record of a run that the button has started."""
        return self.comfy.run_to_the_end(self.server, SECONDS)

    def check_errors(self) -> None:
        assert not self.comfy.errors and not self.said, "\n".join([*self.comfy.errors, *self.said])


@contextmanager
def workflow_page(server: ComfyServer) -> Iterator[WorkflowPage]:
    """A page, and the models that TINY and TINY_FLOW name."""
    tiny_model(server, TINY["Load DiT"]["dit_name"])
    tiny_flow_model(server, TINY_FLOW["Load Small Flux"]["model_name"])
    with comfy_page(server) as comfy:
        yield WorkflowPage(comfy, server)


def missing(nodes: list[dict[str, Any]]) -> list[str]:
    return [node["type"] for node in nodes if not node["known"]]


def overlapping(nodes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of nodes (titles; boxes are x, y, width, height) that cover each other."""

    def cover(a: list[float], b: list[float]) -> bool:
        return all(a[axis] < b[axis] + b[axis + 2] and b[axis] < a[axis] + a[axis + 2] for axis in (0, 1))

    return [
        (a["title"], b["title"]) for index, a in enumerate(nodes) for b in nodes[:index] if cover(a["box"], b["box"])
    ]


def check_run(run: dict[str, Any]) -> None:
    """It ended well, and every node at its end has put something out."""
    errors = [message for kind, message in run["status"]["messages"] if kind == "execution_error"]
    assert not errors, (errors[0]["node_type"], errors[0]["exception_message"])
    assert run["status"]["status_str"] == "success"
    _, _, prompt, _, ends, *_ = run["prompt"]
    silent = {prompt[number]["class_type"] for number in ends if number not in run["outputs"]}
    assert silent <= {"TokenCacheTrainPredictor"}  # its panel hears of it in another way
