"""What `make demo` does, on a small DiT of random weights and with few steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import demo
import pytest
from comfy_client import RunError, run_prompt
from comfy_server import ComfyServer, ServerError
from PIL import Image
from tiny_dit import tiny_dit_file
from workflow_to_api import read_workflow, to_api

from tokencache_core.__main__ import main


@pytest.fixture(scope="module")
def prompts(comfy_server: ComfyServer) -> Iterator[list[dict[str, Any]]]:
    """The example workflows, their models, predictor and steps replaced by small ones."""
    folder = comfy_server.output / "diffusion_models"  # ComfyUI looks for models there too
    folder.mkdir(exist_ok=True)
    model = tiny_dit_file(folder / "tiny.safetensors", in_channels=3, input_size=32, num_classes=9)
    predictor = comfy_server.comfyui / "models" / "tokencache" / f"{__name__}.safetensors"
    predictor.parent.mkdir(parents=True, exist_ok=True)
    written = (predictor, predictor.with_suffix(".training"))
    for file in written:
        file.unlink(missing_ok=True)
    trained = ["--cache-ratio", "0.7", "--predictor", "light", "--last-blocks", "1", "--rank", "2", "--loss", "drift"]
    assert (
        main(
            [
                "train",
                "--model",
                str(model),
                "--out",
                str(predictor),
                "--iterations",
                "1",
                "--steps",
                "6",
                "--batch",
                "1",
                *trained,
            ]
        )
        == 0
    )
    prompts = [
        demo.with_tokens(to_api(read_workflow(file), comfy_server.get("/object_info"))) for file in demo.WORKFLOWS
    ]
    for node in [node for prompt in prompts for node in prompt.values()]:
        if node["class_type"] == "TokenCacheLoadDiT":
            node["inputs"]["dit_name"] = "tiny.safetensors"
        elif node["class_type"] == "TokenCacheLoadPredictor":
            node["inputs"]["predictor_name"] = predictor.name
        elif node["_meta"]["title"] == "Classes of the nine pictures":
            node["inputs"]["label"] = "0, 1, 2, 3, 4, 5, 6, 7, 8"
        elif node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 12
    yield prompts
    for file in written:
        file.unlink(missing_ok=True)


@pytest.fixture
def prompt(prompts: list[dict[str, Any]]) -> dict[str, Any]:
    return prompts[0]


@pytest.fixture
def titles(prompt: dict[str, Any]) -> dict[str, str]:
    return {node["_meta"]["title"]: node_id for node_id, node in prompt.items()}


@pytest.mark.server
def test_it_ends_with_pictures_and_a_table(comfy_server, prompts, titles, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "RESULTS", tmp_path)
    run_prompt(comfy_server, demo.warm_up(prompts[0]))
    shown = [
        demo.Shown(comfy_server, file.name, run_prompt(comfy_server, prompt), prompt)
        for file, prompt in zip(demo.WORKFLOWS, prompts)
    ]
    assert titles["Load DiT"] in shown[0].run.cached
    demo.collect(*shown)
    printed = capsys.readouterr().out
    assert printed.count("(6 I-steps, 6 P-steps)") == 1 and printed.count("steps: IIPPIPPIPPIP") == 1
    assert printed.count(" dB") == 2 and all(way in printed for way in demo.WAYS)
    for name in ("grid_full.png", "grid_tokencache.png", "grid_predictor.png", "heatmap.png", "steps.png"):
        assert min(Image.open(tmp_path / name).size) > 30
    reports = (tmp_path / "report.txt").read_text().splitlines()
    assert len([line for line in reports if line.startswith("compute:")]) == 2


@pytest.mark.server
def test_a_node_that_fails_is_named(comfy_server, prompt, titles):
    label = titles["Classes of the nine pictures"]
    broken = demo.warm_up(prompt)
    broken[label]["inputs"]["label"] = "10"
    with pytest.raises(RunError, match=rf"Node {label} \(TokenCacheDiTClassLabel\) failed: .*10"):
        run_prompt(comfy_server, broken)


@pytest.mark.server
def test_a_missing_output_is_named(comfy_server, prompt, titles):
    bare = demo.warm_up(demo.warm_up(prompt))  # seeds that no other test has used
    del bare[titles["TokenCache Report"]]
    shown = demo.Shown(comfy_server, "plain_and_cached.json", run_prompt(comfy_server, bare), bare)
    with pytest.raises(
        demo.DemoError, match="node 'TokenCache Report' showed no text: is it still in plain_and_cached.json"
    ):
        shown.report()
    with pytest.raises(demo.DemoError, match="'KSampler with more' did not run: is it in plain_and_cached.json"):
        shown.seconds("with more")


@pytest.mark.server
@pytest.mark.parametrize(
    ("workflow", "loader", "says"),
    [
        (
            0,
            ("TokenCacheLoadDiT", "dit_name"),
            "TokenCacheLoadDiT does not list gone.safetensors: restore reference/emoji-dit",
        ),
        (
            1,
            ("TokenCacheLoadPredictor", "predictor_name"),
            "TokenCacheLoadPredictor does not list gone.safetensors: restore reference/emoji-predictor",
        ),
    ],
)
def test_a_missing_file_is_named(comfy_server, prompts, workflow, loader, says):
    prompt = demo.warm_up(prompts[workflow])
    for node in prompt.values():
        if node["class_type"] == loader[0]:
            node["inputs"][loader[1]] = "gone.safetensors"
    with pytest.raises(demo.DemoError, match=says):
        demo.check_files(prompt, comfy_server.get("/object_info"))


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
    rows = demo.table([10.0, 4.0, 8.0], ["100.0%", "35.0%", "41.2%"], [None, 41.26, 42.0]).splitlines()
    assert rows[1].split() == ["without", "TokenCache", "10.00", "s", "1.00x", "100.0%", "-"]
    assert rows[2].split() == ["with", "TokenCache", "4.00", "s", "2.50x", "35.0%", "41.3", "dB"]
    assert rows[3].split() == ["with", "the", "trained", "predictor", "8.00", "s", "1.25x", "41.2%", "42.0", "dB"]
