"""Converts a workflow from the format that the ComfyUI page saves to the one that its server takes.

The page's file has each node's widget values only by position; the server's own `/object_info` says which position is
which input. Both formats are ComfyUI's (workflow JSON 0.4, and the prompt of `POST /prompt`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"}
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
CONTROLS = {"fixed", "increment", "decrement", "randomize"}  # the page's own widget below a seed
UPLOADS = {"image_upload", "audio_upload", "video_upload", "file_upload"}  # a button below the file's name
PAGE_ONLY = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}  # nodes that the server never sees
MUTED, BYPASSED = 2, 4  # two of LiteGraph's modes


class WorkflowError(ValueError):
    """The workflow cannot be run on this server; the message names the node or the file."""


@dataclass(frozen=True)
class Link:
    """Output `slot` of node `source` feeds an input of type `kind`."""

    source: int
    slot: int
    kind: str


def read_workflow(file: Path) -> dict[str, Any]:
    """The workflow in a file that the page has saved."""
    try:
        workflow = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkflowError(f"The workflow {file} cannot be read: {error}.") from error
    if not isinstance(workflow, dict) or not isinstance(workflow.get("nodes"), list):
        raise WorkflowError(f"{file} is not a workflow that the ComfyUI page has saved (it has no list of nodes).")
    return workflow


def to_api(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The prompt: node id -> class_type, inputs (values, or [node id, slot]) and title.

    object_info: the server's.
    """
    graph = Graph(workflow)
    nodes = [node for node in graph.nodes.values() if graph.runs(node)]
    missing = sorted({node["type"] for node in nodes} - object_info.keys())
    if missing:
        raise WorkflowError(
            f"This ComfyUI does not have the node types {', '.join(missing)}: install the pack they come from, and "
            "look for its import error in the server's log."
        )
    return {
        str(node["id"]): {
            "class_type": node["type"],
            "inputs": node_inputs(node, graph, object_info[node["type"]]["input"]),
            "_meta": {"title": node.get("title") or object_info[node["type"]]["display_name"] or node["type"]},
        }
        for node in nodes
    }


def node_inputs(node: dict[str, Any], graph: Graph, definition: dict[str, Any]) -> dict[str, Any]:
    """The node's inputs by name: its widgets' values, replaced by links, or by values that come over a link."""
    values = node.get("widgets_values") or []
    inputs = dict(values) if isinstance(values, dict) else dict(name_widgets(definition, list(values)))
    for socket in node.get("inputs", []):
        if socket.get("link") is not None:
            found = graph.resolve(socket["link"])
            if found is not None:
                inputs[socket["name"]] = found
    return inputs


def name_widgets(definition: dict[str, Any], values: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) for each widget of a node's definition; the values are removed from the front of the list.

    Missing values, as in a file that is older than the node, become the widget's default. Values that only the page
    needs (the control below a seed, an upload button) are dropped.
    """
    for name, (kind, options) in _declared(definition):
        if kind == DYNAMIC_COMBO:
            choice = values.pop(0) if values else options["options"][0]["key"]
            yield prefix + name, choice
            chosen = next((option for option in options["options"] if option["key"] == choice), None)
            if chosen is None:
                raise WorkflowError(f"{prefix + name} has no option {choice!r}.")
            yield from name_widgets(chosen["inputs"], values, f"{prefix}{name}.")
        elif _is_widget(kind, options):
            if values:
                yield prefix + name, _literal(values.pop(0))
            elif "default" in options:
                yield prefix + name, options["default"]
            controlled = options.get("control_after_generate") or name in ("seed", "noise_seed")
            if values and ((controlled and values[0] in CONTROLS) or UPLOADS & options.keys()):
                values.pop(0)


def _declared(definition: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, dict[str, Any]]]]:
    for section in ("required", "optional"):
        for name, (kind, *options) in definition.get(section, {}).items():
            yield name, (kind, options[0] if options else {})


def _is_widget(kind: Any, options: dict[str, Any]) -> bool:
    if options.get("forceInput"):
        return False
    return isinstance(kind, list) or options.get("widgetType", kind) in WIDGET_TYPES


def _literal(value: Any) -> Any:
    return {"__value__": value} if isinstance(value, list) else value  # a bare list would read as a link


class Graph:
    """The nodes and links of a workflow file."""

    def __init__(self, workflow: dict[str, Any]):
        self.nodes: dict[int, dict[str, Any]] = {node["id"]: node for node in workflow["nodes"]}
        self.links = {link[0]: Link(link[1], link[2], link[5]) for link in workflow.get("links", [])}
        subgraphs = {graph["id"] for graph in workflow.get("definitions", {}).get("subgraphs", [])}
        inside = [node["id"] for node in workflow["nodes"] if node["type"] in subgraphs]
        if inside:
            raise WorkflowError(f"Node {inside[0]} is a subgraph: unpack it in the ComfyUI page and save the workflow.")

    def runs(self, node: dict[str, Any]) -> bool:
        """Whether the server sees this node."""
        return node["type"] not in PAGE_ONLY and node.get("mode", 0) not in (MUTED, BYPASSED)

    def resolve(self, link_id: int) -> Any:
        """The source of a link, past reroutes and bypassed nodes: [node id, slot], or a primitive's value, or None."""
        link = self.links.get(link_id)
        while link is not None:
            source = self.nodes[link.source]
            if source.get("mode", 0) == MUTED:
                return None
            if source["type"] == "PrimitiveNode":
                return source["widgets_values"][0]
            if source["type"] != "Reroute" and source.get("mode", 0) != BYPASSED:
                return [str(link.source), link.slot]
            link = self._through(source, link)
        return None

    def _through(self, node: dict[str, Any], link: Link) -> Link | None:
        """The link into `node` that stands for its output `link`: its input at the same place, or of its type."""
        sockets = node.get("inputs", [])
        candidates = sockets[link.slot : link.slot + 1] + sockets
        for socket in candidates:
            fits = node["type"] == "Reroute" or link.kind in (socket["type"], "*")
            if fits and socket.get("link") is not None:
                return self.links.get(socket["link"])
        return None
