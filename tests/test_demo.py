"""What `make demo` does, on a small DiT of random weights and with few steps."""

from __future__ import annotations

from typing import Any

import demo
import pytest
from comfy_client import RunError, run_prompt
from comfy_server import ComfyServer, ServerError
from PIL import Image
from tiny_dit import tiny_dit_file
from workflow_to_api import read_workflow, to_api


@pytest.fixture(scope="module")
def prompt(comfy_server: ComfyServer) -> dict[str, Any]:
    """The example workflow, its model and steps replaced by small ones."""
    folder = comfy_server.output / "diffusion_models"  # ComfyUI looks for models there too
    folder.mkdir(exist_ok=True)
    tiny_dit_file(folder / "tiny.safetensors", in_channels=3, input_size=32, num_classes=9)
    prompt = to_api(read_workflow(demo.WORKFLOW), comfy_server.get("/object_info"))
    for node in prompt.values():
        if node["class_type"] == "TokenCacheLoadDiT":
            node["inputs"]["dit_name"] = "tiny.safetensors"
        elif node["_meta"]["title"] == "Classes of the nine pictures":
            node["inputs"]["label"] = "0, 1, 2, 3, 4, 5, 6, 7, 8"
        elif node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 8
    return prompt


@pytest.fixture
def titles(prompt: dict[str, Any]) -> dict[str, str]:
    return {node["_meta"]["title"]: node_id for node_id, node in prompt.items()}


@pytest.mark.server
def test_it_ends_with_pictures_and_a_table(comfy_server, prompt, titles, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "RESULTS", tmp_path)
    run_prompt(comfy_server, demo.warm_up(prompt))
    run = run_prompt(comfy_server, prompt)
    assert {titles[title] for title in demo.SAMPLERS} <= run.seconds.keys()
    assert titles["Load DiT"] in run.cached
    demo.collect(comfy_server, run, titles)
    printed = capsys.readouterr().out
    assert "IIPPIPPI" in printed
    assert "without TokenCache" in printed and " dB" in printed
    for name in ("grid_full.png", "grid_tokencache.png", "heatmap.png", "steps.png"):
        assert min(Image.open(tmp_path / name).size) > 30
    assert "compute" in (tmp_path / "report.txt").read_text()


@pytest.mark.server
def test_a_node_that_fails_is_named(comfy_server, prompt, titles):
    label = titles["Classes of the nine pictures"]
    broken = demo.warm_up(prompt)
    broken[label]["inputs"]["label"] = "10"
    with pytest.raises(RunError, match=rf"Node {label} \(TokenCacheDiTClassLabel\) failed: .*10"):
        run_prompt(comfy_server, broken)


@pytest.mark.server
def test_a_missing_output_is_named(comfy_server, prompt, titles, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "RESULTS", tmp_path)
    bare = demo.warm_up(demo.warm_up(prompt))  # seeds that no other test has used
    del bare[titles["Report"]]
    run = run_prompt(comfy_server, bare)
    with pytest.raises(demo.DemoError, match="node 'Report' showed no text"):
        demo.collect(comfy_server, run, {title: node_id for title, node_id in titles.items() if title != "Report"})


@pytest.mark.server
def test_a_missing_model_is_named(comfy_server, prompt, titles):
    prompt = demo.warm_up(prompt)
    prompt[titles["Load DiT"]]["inputs"]["dit_name"] = "gone.safetensors"
    with pytest.raises(demo.DemoError, match="no model gone.safetensors in models/diffusion_models"):
        demo.check_model(prompt, comfy_server.get("/object_info"))


@pytest.mark.server
def test_a_port_in_use_is_named(comfy_server, comfyui_path, tmp_path):
    with pytest.raises(ServerError, match=f"Port {comfy_server.port} is in use"):
        with ComfyServer(comfyui_path, tmp_path, port=comfy_server.port):
            pass


def test_a_server_that_ends_shows_its_last_words(tmp_path):
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "main.py").write_text("raise SystemExit('no torch here')")
    with pytest.raises(ServerError, match="no torch here"):
        with ComfyServer(tmp_path, tmp_path / "out", with_pack=False):
            pass


def test_the_table_compares_the_samplers():
    rows = demo.table(10.0, 4.0, "35.0%", 41.26).splitlines()
    assert rows[1].split() == ["without", "TokenCache", "10.00", "s", "1.00x", "100.0%", "-"]
    assert rows[2].split() == ["with", "TokenCache", "4.00", "s", "2.50x", "35.0%", "41.3", "dB"]
