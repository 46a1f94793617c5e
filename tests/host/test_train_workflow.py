"""The example workflow that trains a predictor, run by a real ComfyUI on a small DiT."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfy_client import run_prompt
from comfy_server import ComfyServer
from tiny_dit import tiny_dit_file
from workflow_to_api import read_workflow, to_api

from tokencache_core.predictor.file import read_trained_cache

WORKFLOW = Path(__file__).resolve().parents[2] / "example_workflows" / "Train a predictor for your model.json"


@pytest.mark.server
def test_it_trains_saves_applies_and_reports(comfy_server: ComfyServer, predictor_file: Path):
    folder = comfy_server.output / "diffusion_models"  # ComfyUI looks for models there too
    folder.mkdir(exist_ok=True)
    tiny_dit_file(
        folder / "trained.safetensors", in_channels=3, input_size=32, num_classes=9, width=32, depth=2, heads=1
    )
    prompt = to_api(read_workflow(WORKFLOW), comfy_server.get("/object_info"))
    by_title = {node["_meta"]["title"]: node["inputs"] for node in prompt.values()}
    by_title["Load DiT"]["dit_name"] = "trained.safetensors"
    by_title["Empty pixel latent"]["batch_size"] = 2
    by_title["Classes of the training runs"]["label"] = "0, 1"
    by_title["Classes of the pictures"]["label"] = "4, 5"
    by_title["Train Cache Predictor"].update(minutes=0.02, steps=8, save_as=predictor_file.stem)
    by_title["Compare with and without TokenCache"]["steps"] = 8
    nodes = {node["_meta"]["title"]: number for number, node in prompt.items()}
    run = run_prompt(comfy_server, prompt)
    assert {nodes["Train Cache Predictor"], nodes["Compare with and without TokenCache"]} <= run.seconds.keys()
    assert run.outputs[nodes["Plot Predictor Training"]]["images"]
    trained = read_trained_cache(predictor_file)
    assert trained.predictor is not None and "worth loading: " in trained.notes["verdict"]
