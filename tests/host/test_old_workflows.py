"""Workflows saved when nodes had fewer widgets and outputs (the files are the pack's own of then): they open, mean the
same, and run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_page import needs_chromium
from comfy_server import ComfyServer
from workflow_page import TINY, WorkflowPage, check_run, missing, workflow_page
from workflow_to_api import read_workflow

FOLDER = Path(__file__).resolve().parent / "old_workflows"
# what the node's defaults add
LATER = {"corrector": 0.3, "memory_budget_gb": 0.0, "forecast_reach": 1.08, "calibrate_on_first_run": False}
APPLY = {
    "cache_ratio": 1,
    "forecast_order": 2,
    "last_blocks": 0,
    "context": "stale",
    "score": "staleness",
    "shares": "early",
    **LATER,
}
MEANT = {  # file -> node -> widget -> value
    "quick_start": {
        "Apply TokenCache": APPLY,
        "Cache Heatmap Preview": {"export_steps": "off", "export_block": 0},
        "Load DiT": {"dit_name": "emoji-dit.safetensors"},
        "Classes of the nine pictures": {"label": "0, 1, 2, 3, 4, 5, 6, 7, 8"},
        "No class (negative)": {"label": ""},
    },
    "trained_predictor": {
        "Apply TokenCache": APPLY,
        "Load Cache Predictor": {"predictor_name": "emoji-predictor.safetensors"},
        "I-Step Scheduler": {
            "policy": "uniform",
            "interval": 3,
            "second_interval": 4,
            "split": 0.5,
            "warmup": 2,
            "steps": "0, 1, 2, 5, 8, 11, 14, 17",
            "count": 16,
            "speed_up": 0,
            "error_bound": 0.02,
        },
    },
    "train_predictor": {
        "Apply TokenCache": APPLY,
        "Train Cache Predictor": {
            "save_as": "reference_quick",
            "minutes": 2,
            "steps": 50,
            "cfg": 4,
            "sampler_name": "ddim",
            "scheduler": "simple",
            "interval": 5,
            "last_blocks": 0,
            "cache_ratio": 1,
            "forecast_order": 2,
            "rank": 16,
            "predictor": "none",
            "forecast_hidden": 96,
            "loss": "run",
            "every_step": False,
            "learning_rate": 0.001,
            "checkpointing": False,
            "seed": 0,
            "control_after_generate": "fixed",
            "accumulate": 1,
            "sparsity": 0,
            "soft": False,
        },
    },
}
STEPS = 8
# file -> what makes it a short run of a small model, or where a predictor binds it to the pack's own, of one picture
SHORT = {
    "quick_start": {
        **TINY,
        "KSampler without TokenCache": {"steps": STEPS},
        "KSampler with TokenCache": {"steps": STEPS},
    },
    "trained_predictor": {
        "Empty pixel latent": {"batch_size": 1},
        "KSampler with the trained predictor": {"steps": STEPS},
    },
    "train_predictor": {
        **TINY,
        "Classes of the training runs": {"label": "0, 1"},
        "Classes of the pictures": {"label": "2, 3"},
        "KSampler": {"steps": STEPS},
        "Train Cache Predictor": {"steps": STEPS, "minutes": 0.02, "save_as": __name__},
    },
}
pytestmark = [pytest.mark.server, needs_chromium]


@pytest.fixture(scope="module")
def page(comfy_server: ComfyServer) -> Iterator[WorkflowPage]:
    with workflow_page(comfy_server) as page:
        yield page


@pytest.mark.parametrize("name", MEANT)
def test_it_opens_means_the_same_and_runs(page: WorkflowPage, predictor_file: Path, name: str):
    workflow = read_workflow(FOLDER / f"{name}.json")
    page.open(workflow)
    nodes = page.nodes()
    assert sorted(node["type"] for node in nodes) == sorted(node["type"] for node in workflow["nodes"])
    assert not missing(nodes)
    by_title = {node["title"]: node["widgets"] for node in nodes}
    assert {title: by_title[title] for title in MEANT[name]} == MEANT[name]
    assert links(page) == sorted((link[1], link[2], link[3], socket(workflow, link)) for link in workflow["links"])

    page.open(workflow, SHORT[name])
    check_run(page.run())
    page.check_errors()


def links(page: WorkflowPage) -> list[tuple[int, int, int, str]]:
    """(node, its output, node, its input's name), as they are on the page."""
    found = page.page.evaluate("""() => [...app.graph.links.values()].map(link => [
        Number(link.origin_id), link.origin_slot, Number(link.target_id), app.graph.getNodeById(link.target_id).inputs[link.target_slot].name,
    ])""")
    return sorted(tuple(link) for link in found)


def socket(workflow: dict[str, Any], link: list[Any]) -> str:
    (target,) = [node for node in workflow["nodes"] if node["id"] == link[3]]
    return target["inputs"][link[4]]["name"]
