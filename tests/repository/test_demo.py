"""What `make demo` does, on a small Flux of random weights and with few steps."""

from __future__ import annotations

import re
from typing import Any

import demo
import pytest
from comfy_client import RunError, run_prompt
from comfy_server import ComfyServer, ServerError
from PIL import Image
from tiny_flux_model import tiny_text_to_image
from workflow_to_api import read_workflow, to_api

from tokencache_core.flux.file import save_flux

STEP_BY_STEP = "Without and with, step by step.json"


@pytest.fixture(scope="module")
def prompt(comfy_server: ComfyServer) -> dict[str, Any]:
    """The example workflow, its model, prompts and steps replaced by small ones."""
    folder = comfy_server.output / "diffusion_models"  # ComfyUI looks for models there too
    folder.mkdir(exist_ok=True)
    save_flux(tiny_text_to_image(), folder / "tiny.safetensors", licence="none")
    prompt = demo.with_steps(to_api(read_workflow(demo.WORKFLOW), comfy_server.get("/object_info")))
    for node in prompt.values():
        if node["class_type"] == demo.LOADER:
            node["inputs"][demo.NAME] = "tiny.safetensors"
        elif node["class_type"] == "TokenCacheSmallFluxPrompt" and node["inputs"]["text"]:
            node["inputs"]["text"] = "red cat\ngreen dog"
        elif node["class_type"] == "EmptyChromaRadianceLatentImage":
            node["inputs"].update(width=32, height=32, batch_size=2)
        elif node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 12
    return prompt


@pytest.fixture
def titles(prompt: dict[str, Any]) -> dict[str, str]:
    return {node["_meta"]["title"]: node_id for node_id, node in prompt.items()}


@pytest.mark.server
def test_it_ends_with_pictures_and_a_table(comfy_server, prompt, titles, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "RESULTS", tmp_path)
    run_prompt(comfy_server, demo.warm_up(prompt))
    both = demo.Shown(comfy_server, run_prompt(comfy_server, prompt), prompt)
    assert titles["Load Small Flux"] in both.run.cached
    assert both.whole_steps() == 6
    fewer = demo.fewer_steps(prompt, both.whole_steps())
    few = demo.Shown(comfy_server, run_prompt(comfy_server, fewer), fewer)
    assert titles["KSampler with TokenCache"] not in few.run.seconds
    demo.collect(both, few)
    printed = capsys.readouterr().out
    assert printed.count("(6 I-steps, 6 P-steps)") == 1
    (kinds,) = re.findall("steps: ([IP]{12})", printed)
    assert kinds.startswith("I") and (kinds.count("I"), kinds.count("P")) == (6, 6)
    assert printed.count(" dB") == 2 and all(way in printed for way in (demo.PLAIN, demo.CACHED, demo.FEWER))
    for name in ("grid_full.png", "grid_tokencache.png", "grid_fewer_steps.png", "steps.png", "comparison.png"):
        assert min(Image.open(tmp_path / name).size) > 30
    reports = (tmp_path / "report.txt").read_text().splitlines()
    assert len([line for line in reports if line.startswith("compute:")]) == 1


@pytest.mark.server
def test_a_node_that_fails_is_named(comfy_server, prompt):
    broken = demo.warm_up(prompt)
    number, node = next(
        (number, node) for number, node in broken.items() if node["inputs"].get("text", "").startswith("red")
    )
    node["inputs"]["text"] = "spaceship"
    with pytest.raises(RunError, match=rf"Node {number} \(TokenCacheSmallFluxPrompt\) failed: .*spaceship"):
        run_prompt(comfy_server, broken)


@pytest.mark.server
def test_a_missing_output_is_named(comfy_server, prompt, titles):
    bare = demo.warm_up(demo.warm_up(prompt))  # seeds that no other test has used
    del bare[titles["TokenCache Report"]]
    shown = demo.Shown(comfy_server, run_prompt(comfy_server, bare), bare)
    with pytest.raises(demo.DemoError, match=f"node 'TokenCache Report' showed no text: is it still in {STEP_BY_STEP}"):
        shown.report()
    with pytest.raises(demo.DemoError, match=f"'KSampler with more' did not run: is it in {STEP_BY_STEP}"):
        shown.seconds("with more")


@pytest.mark.server
def test_a_missing_file_is_named(comfy_server, prompt):
    gone = demo.warm_up(prompt)
    for node in gone.values():
        if node["class_type"] == demo.LOADER:
            node["inputs"][demo.NAME] = "gone.safetensors"
    says = "TokenCacheLoadSmallFlux does not list gone.safetensors: restore reference/emoji-flux"
    with pytest.raises(demo.DemoError, match=says):
        demo.check_files(gone, comfy_server.get("/object_info"))


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
    rows = demo.table([10.0, 4.0, 4.1], ["100.0%", "35.0%", "-"], [None, 41.26, 32.0]).splitlines()
    assert rows[1].split() == ["without", "TokenCache", "10.00", "s", "1.00x", "100.0%", "-"]
    assert rows[2].split() == ["with", "TokenCache", "4.00", "s", "2.50x", "35.0%", "41.3", "dB"]
    assert rows[3].split() == ["as", "many", "plain", "steps", "4.10", "s", "2.44x", "-", "32.0", "dB"]
