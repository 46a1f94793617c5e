"""The example workflows: sound files, nodes and values that a real ComfyUI takes, notes that name the files to
download.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfy_server import ComfyServer, ServerError
from workflow_to_api import PAGE_ONLY, name_widgets, read_workflow, to_api

from tokencache_core.sampling.noise_time import noise_time
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_core.schedules.usual_count import usual_count

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
EVERY = sorted(FOLDER.glob("*.json"))
CHECKPOINTS = {
    "dit_xl_2": "DiT-XL-2-256x256.pt",
    "flux_dev": "flux1-dev.safetensors",
    "open_sora_plan": "Open-Sora-Plan-v1.1.0/65x512x512/diffusion_pytorch_model.safetensors",
    "pixart_sigma": "PixArt-Sigma-XL-2-1024-MS.pth",
    "qwen_image": "qwen_image_fp8_e4m3fn.safetensors",
    "wan_video": "wan2.1_t2v_1.3B_fp16.safetensors",
    "z_image": "z_image_bf16.safetensors",
}
VIDEOS = {"open_sora_plan", "wan_video"}
FAMILIES = [FOLDER / f"{name}.json" for name in CHECKPOINTS]
# widgets that name a file to download
FILES = {"unet_name", "dit_name", "model_name", "clip_name", "clip_name1", "clip_name2", "vae_name"}
NAMED = pytest.mark.parametrize("file", EVERY, ids=lambda file: file.stem)
OF_FAMILIES = pytest.mark.parametrize("file", FAMILIES, ids=lambda file: file.stem)


@pytest.fixture(scope="module")
def object_info(comfy_server: ComfyServer) -> dict[str, Any]:
    return comfy_server.get("/object_info")


def of_kind(prompt: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Node id -> inputs, of the nodes of one kind."""
    return {number: node["inputs"] for number, node in prompt.items() if node["class_type"] == kind}


def notes(workflow: dict[str, Any]) -> str:
    return "\n".join(node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")


@NAMED
def test_both_ends_of_every_link_know_it(file: Path):
    workflow = read_workflow(file)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    assert workflow["version"] == 0.4
    assert len(nodes) == len(workflow["nodes"]) and max(nodes) <= workflow["last_node_id"]
    assert len(links) == len(workflow["links"]) and max(links) <= workflow["last_link_id"]
    for number, source, slot, target, socket, kind in links.values():
        output, end = nodes[source]["outputs"][slot], nodes[target]["inputs"][socket]
        assert number in output["links"] and end["link"] == number
        assert output["type"] == kind and end["type"] in (kind, "*")
    outgoing = [number for node in nodes.values() for output in node["outputs"] for number in output["links"]]
    incoming = [end["link"] for node in nodes.values() for end in node["inputs"] if end["link"] is not None]
    assert sorted(outgoing) == sorted(incoming) == sorted(links)


@pytest.mark.server
@NAMED
def test_every_value_has_a_widget(file: Path, object_info):
    for node in read_workflow(file)["nodes"]:
        if node["type"] not in PAGE_ONLY:
            values = list(node["widgets_values"])
            dict(name_widgets(object_info[node["type"]]["input"], values))
            assert not values, node["type"]


@pytest.mark.server
@OF_FAMILIES
def test_only_files_that_are_not_there_keep_it_from_running(file: Path, object_info, comfy_server: ComfyServer):
    prompt = to_api(read_workflow(file), object_info)
    wanted = {(number, name) for number, node in prompt.items() for name in FILES & node["inputs"].keys()}
    for number, name in wanted:
        prompt[number]["inputs"][name] = "not there"  # whatever this ComfyUI may have
    with pytest.raises(ServerError) as refused:
        comfy_server.post("/prompt", {"prompt": prompt})
    reply = json.loads(str(refused.value).partition(": ")[2])
    complaints = [(number, error) for number, node in reply["node_errors"].items() for error in node["errors"]]
    assert {error["type"] for _, error in complaints} == {"value_not_in_list"}, complaints
    assert {(number, error["extra_info"]["input_name"]) for number, error in complaints} == wanted


@pytest.mark.server
@OF_FAMILIES
def test_the_sampled_model_is_cached_and_reported(file: Path, object_info):
    prompt = to_api(read_workflow(file), object_info)
    ((sampler, sampling),) = of_kind(prompt, "KSampler").items()
    ((apply, cache),) = of_kind(prompt, "TokenCacheApply").items()
    ((report, ends),) = of_kind(prompt, "TokenCacheReport").items()
    assert sampling["model"] == [apply, 0]
    assert cache["speed_up"] == 2
    assert ends == {"report": [apply, 1], "latent": [sampler, 0]}
    assert of_kind(prompt, "SaveVideo" if file.stem in VIDEOS else "SaveImage")


@pytest.mark.server
@OF_FAMILIES
def test_the_notes_name_every_file_and_its_folder(file: Path, object_info):
    workflow = read_workflow(file)
    prompt, text = to_api(workflow, object_info), notes(workflow)
    names = {node["inputs"][name] for node in prompt.values() for name in FILES & node["inputs"].keys()}
    assert CHECKPOINTS[file.stem] in names
    rows = [line for line in text.splitlines() if line.startswith("| [")]
    assert {row[3:].partition("]")[0] for row in rows} == names
    assert all("`models/" in row and "](https://" in row for row in rows)
    assert "was not measured here" in text and "TokenCache Report" in text


@pytest.mark.server
@OF_FAMILIES
def test_the_notes_count_the_whole_steps_as_the_schedule_does(file: Path, object_info):
    workflow = read_workflow(file)
    prompt, text = to_api(workflow, object_info), notes(workflow)
    (sampling,), (cache,) = of_kind(prompt, "KSampler").values(), of_kind(prompt, "TokenCacheApply").values()
    steps = sampling["steps"]
    taus = [noise_time(sigma) for sigma in SigmaSchedule("flow", 3.0).sigmas(steps)[:-1].tolist()]
    whole = len(AutomaticSchedule(speedup=cache["speed_up"]).i_steps(taus))
    assert f"**{steps} steps of `{sampling['sampler_name']}`" in text and f"cfg {sampling['cfg']:g}" in text
    assert f"**`speed_up` 2:** {whole} of the {steps} steps are computed whole" in text
    assert f"0 is automatic: at most {steps / usual_count(taus):.1f} times" in text


@NAMED
def test_it_has_one_note_and_a_title_that_people_read(file: Path):
    workflow = read_workflow(file)
    assert len([node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]) == 1
    shown = workflow["extra"]["tokencache"]
    assert set(shown) == {"title", "description"} and 10 < len(shown["title"]) < 45
    assert "_" not in shown["title"] and shown["description"].endswith(".")
