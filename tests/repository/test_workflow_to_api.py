"""The page's workflow format into the server's, against the node definitions of a real server."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from comfy_server import ComfyServer
from workflow_to_api import BYPASSED, MUTED, WorkflowError, read_workflow, to_api

pytestmark = pytest.mark.server
QUICK_START = Path(__file__).resolve().parents[2] / "example_workflows" / "Without and with, step by step.json"


@pytest.fixture(scope="module")
def object_info(comfy_server: ComfyServer) -> dict[str, Any]:
    return comfy_server.get("/object_info")


def node(
    node_id: int, kind: str, widgets: Sequence[Any] = (), mode: int = 0, **links: tuple[str, int | None]
) -> dict[str, Any]:
    """A node as the page saves it; links: input name = (type, link id)."""
    sockets = [{"name": name, "type": type_, "link": link} for name, (type_, link) in links.items()]
    return {"id": node_id, "type": kind, "mode": mode, "inputs": sockets, "widgets_values": list(widgets)}


def workflow(*nodes: dict[str, Any], links: Sequence[list[Any]] = ()) -> dict[str, Any]:
    """links: [link id, source node, its slot, target node, its slot, type]."""
    return {"nodes": list(nodes), "links": list(links), "version": 0.4}


def test_quick_start(object_info):
    prompt = to_api(read_workflow(QUICK_START), object_info)
    samplers = [node for node in prompt.values() if node["class_type"] == "KSampler"]
    sampling = {"seed": 1, "steps": 20, "cfg": 3.5, "sampler_name": "euler", "scheduler": "simple", "denoise": 1}
    assert len(samplers) == 2
    assert all({name: node["inputs"][name] for name in sampling} == sampling for node in samplers)
    models = {prompt[node["inputs"]["model"][0]]["class_type"] for node in samplers}
    assert models == {"TokenCacheLoadSmallFlux", "TokenCacheApply"}
    assert "MarkdownNote" not in {node["class_type"] for node in prompt.values()}


def test_widgets_are_named_and_the_pages_own_dropped(object_info):
    seed_and_control = node(1, "KSampler", [7, "randomize", 20, 4.5, "ddim", "simple", 0.5])
    file_and_button = node(2, "LoadImage", ["picture.png", "image"])
    prompt = to_api(workflow(seed_and_control, file_and_button), object_info)
    assert prompt["1"]["inputs"] == {
        "seed": 7,
        "steps": 20,
        "cfg": 4.5,
        "sampler_name": "ddim",
        "scheduler": "simple",
        "denoise": 0.5,
    }
    assert prompt["2"]["inputs"] == {"image": "picture.png"}


def test_a_file_older_than_the_node_gets_defaults(object_info):
    prompt = to_api(workflow(node(1, "TokenCacheApply", [3.0, True])), object_info)
    inputs = prompt["1"]["inputs"]
    assert inputs["speed_up"] == 3.0 and inputs["calibrate_on_first_run"] is True
    assert inputs["cache_ratio"] == 1.0 and inputs["forecast_order"] == -1 and inputs["shares"] == "early"


def test_a_dynamic_combo_brings_its_own_widgets(object_info):
    resize = node(1, "ResizeImageMaskNode", ["scale dimensions", 640, 480, "center", "lanczos"])
    prompt = to_api(workflow(resize), object_info)
    assert prompt["1"]["inputs"] == {
        "resize_type": "scale dimensions",
        "resize_type.width": 640,
        "resize_type.height": 480,
        "resize_type.crop": "center",
        "scale_method": "lanczos",
    }


def decode(link: int) -> dict[str, Any]:
    return node(9, "VAEDecode", samples=("LATENT", link))


def test_links_pass_reroutes_and_bypassed_nodes(object_info):
    prompt = to_api(
        workflow(
            node(1, "EmptyLatentImage", [64, 64, 1]),
            node(2, "Reroute", **{"": ("*", 1)}),
            node(3, "KSampler", mode=BYPASSED, model=("MODEL", None), latent_image=("LATENT", 2)),
            decode(3),
            links=[[1, 1, 0, 2, 0, "LATENT"], [2, 2, 0, 3, 3, "LATENT"], [3, 3, 0, 9, 0, "LATENT"]],
        ),
        object_info,
    )
    assert prompt["9"]["inputs"] == {"samples": ["1", 0]}
    assert prompt.keys() == {"1", "9"}


def test_a_muted_node_feeds_nothing(object_info):
    muted = node(1, "EmptyLatentImage", [64, 64, 1], mode=MUTED)
    prompt = to_api(workflow(muted, decode(1), links=[[1, 1, 0, 9, 0, "LATENT"]]), object_info)
    assert prompt["9"]["inputs"] == {}


def test_a_primitive_gives_its_value_and_a_link_replaces_the_widget(object_info):
    prompt = to_api(
        workflow(
            node(1, "PrimitiveNode", [128, "fixed"]),
            node(2, "EmptyLatentImage", [64, 64, 1], width=("INT", 1)),
            links=[[1, 1, 0, 2, 0, "INT"]],
        ),
        object_info,
    )
    assert prompt["2"]["inputs"] == {"width": 128, "height": 64, "batch_size": 1}


def test_a_missing_pack_is_named(object_info):
    with pytest.raises(WorkflowError, match="does not have the node types NoSuchNode"):
        to_api(workflow(node(1, "NoSuchNode")), object_info)


def test_a_subgraph_is_refused(object_info):
    inside = workflow(node(4, "abc-123")) | {"definitions": {"subgraphs": [{"id": "abc-123"}]}}
    with pytest.raises(WorkflowError, match="Node 4 is a subgraph"):
        to_api(inside, object_info)


@pytest.mark.parametrize("text", ["{", "[]", '{"1": {"class_type": "KSampler"}}'])
def test_a_file_that_is_no_workflow_is_named(tmp_path, text):
    file = tmp_path / "broken.json"
    file.write_text(text)
    with pytest.raises(WorkflowError, match="broken.json"):
        read_workflow(file)


def test_comfyuis_own_templates_get_values_of_the_right_type(object_info):
    """Every installed template whose nodes this server has: one value in a wrong place would show as a wrong type."""
    fits = {"INT": (int, float), "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}
    converted = 0
    for file in templates():
        try:
            prompt = to_api(read_workflow(file), object_info)
        except WorkflowError:
            continue  # other JSON, subgraphs, nodes that need an account
        converted += 1
        for each in prompt.values():
            for name, (kind, *_) in object_info[each["class_type"]]["input"].get("required", {}).items():
                value = each["inputs"].get(name)
                if isinstance(kind, str) and kind in fits and not isinstance(value, list):
                    assert isinstance(value, fits[kind]), (file.name, each["class_type"], name, value)
    assert converted > 30


def templates() -> list[Path]:
    return sorted(Path(str(files("comfyui_workflow_templates_json"))).rglob("*.json"))
