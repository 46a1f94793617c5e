"""The example workflows: sound files, nodes and values that a real ComfyUI takes, notes that name the files to
download.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from comfy_server import ComfyServer, ServerError
from workflow_to_api import PAGE_ONLY, name_widgets, read_workflow, to_api

from example_workflows import FOLDER, for_every_workflow
from tokencache_core.sampling.noise_time import noise_time
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_core.schedules.usual_count import usual_count

FIRST_OF_TWO = "diffusion_pytorch_model-00001-of-00002.safetensors"
CHECKPOINTS = {
    "DiT-XL 2, 2x faster": "DiT-XL-2-256x256.pt",
    "Flux.1 dev, 2x faster": "flux1-dev.safetensors",
    "Open-Sora-Plan 1.1 video, 2x faster": "Open-Sora-Plan-v1.1.0/65x512x512/diffusion_pytorch_model.safetensors",
    "Open-Sora-Plan 1.3 video, 2x faster": f"Open-Sora-Plan-v1.3.0/any93x640x640/{FIRST_OF_TWO}",
    "PixArt Sigma, 2x faster": "PixArt-Sigma-XL-2-1024-MS.pth",
    "Qwen-Image, 2x faster": "qwen_image_fp8_e4m3fn.safetensors",
    "Wan 2.1 video, 2x faster": "wan2.1_t2v_1.3B_fp16.safetensors",
    "Z-Image, 2x faster": "z_image_bf16.safetensors",
}
FAMILIES = [FOLDER / f"{name}.json" for name in CHECKPOINTS]
TWO_MODELS = FOLDER / "Wan 2.2 video, 2x faster.json"
HALVES = ("wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors")
# widgets that name a file to download
FILES = {"unet_name", "dit_name", "model_name", "clip_name", "clip_name1", "clip_name2", "text_encoder", "vae_name"}
OF_FAMILIES = pytest.mark.parametrize("file", FAMILIES, ids=lambda file: file.stem)
PUBLISHED = pytest.mark.parametrize("file", [*FAMILIES, TWO_MODELS], ids=lambda file: file.stem)


@pytest.fixture(scope="module")
def object_info(comfy_server: ComfyServer) -> dict[str, Any]:
    return comfy_server.get("/object_info")


def of_kind(prompt: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Node id -> inputs, of the nodes of one kind."""
    return {number: node["inputs"] for number, node in prompt.items() if node["class_type"] == kind}


def notes(workflow: dict[str, Any]) -> str:
    return "\n".join(node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")


@for_every_workflow
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
        assert output["type"] == kind and (end["type"] == "*" or kind in end["type"].split(","))
    outgoing = [number for node in nodes.values() for output in node["outputs"] for number in output["links"]]
    incoming = [end["link"] for node in nodes.values() for end in node["inputs"] if end["link"] is not None]
    assert sorted(outgoing) == sorted(incoming) == sorted(links)


@pytest.mark.server
@for_every_workflow
def test_every_value_has_a_widget(file: Path, object_info):
    for node in read_workflow(file)["nodes"]:
        if node["type"] not in PAGE_ONLY:
            values = list(node["widgets_values"])
            dict(name_widgets(object_info[node["type"]]["input"], values))
            assert not values, node["type"]


@pytest.mark.server
@PUBLISHED
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
    assert of_kind(prompt, "SaveVideo" if "video" in file.stem else "SaveImage")


@pytest.mark.server
@PUBLISHED
def test_the_notes_name_every_file_and_its_folder(file: Path, object_info):
    workflow = read_workflow(file)
    prompt, text = to_api(workflow, object_info), notes(workflow)
    names = {node["inputs"][name] for node in prompt.values() for name in FILES & node["inputs"].keys()}
    assert names.issuperset(HALVES if file == TWO_MODELS else [CHECKPOINTS[file.stem]])
    folders = [line for line in text.splitlines() if line.startswith("- `models/")]
    links = [link for line in folders for link in re.findall(r"\[([^]]+)\]\(https://", line)]
    assert set(links) == names and len(links) == len(names)
    assert "has not been measured yet" in text and "TokenCache Report" in text


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
    assert f"**`speed_up` 2:** {whole} of the {steps} steps are computed in full" in text
    assert f"0 is automatic: up to {steps / usual_count(taus):.1f} times" in text


@for_every_workflow
def test_it_has_one_note(file: Path):
    assert len([node for node in read_workflow(file)["nodes"] if node["type"] == "MarkdownNote"]) == 1


@pytest.mark.server
def test_two_models_take_turns_each_with_its_own_cache_and_report(object_info):
    workflow = read_workflow(TWO_MODELS)
    prompt = to_api(workflow, object_info)
    samplers = sorted(of_kind(prompt, "KSamplerAdvanced").items(), key=lambda node: node[1]["start_at_step"])
    (first, high), (second, low) = samplers
    assert low["latent_image"] == [first, 0] and high["end_at_step"] == low["start_at_step"] == high["steps"] // 2
    assert (high["add_noise"], high["return_with_leftover_noise"]) == ("enable", "enable")
    assert (low["add_noise"], low["return_with_leftover_noise"]) == ("disable", "disable")
    assert high["noise_seed"] == low["noise_seed"] and low["end_at_step"] == low["steps"]
    for (number, sampling), file in zip(samplers, HALVES):
        apply, _ = sampling["model"]
        cache = prompt[apply]["inputs"]
        assert cache["speed_up"] == 2
        shifted = prompt[cache["model"][0]]["inputs"]
        assert prompt[shifted["model"][0]]["inputs"]["unet_name"] == file
        assert {"report": [apply, 1], "latent": [number, 0]} in of_kind(prompt, "TokenCacheReport").values()
    taus = [noise_time(sigma) for sigma in SigmaSchedule("flow", shifted["shift"]).sigmas(high["steps"])[:-1].tolist()]
    half = high["end_at_step"]
    whole = [len(AutomaticSchedule(speedup=cache["speed_up"]).i_steps(part)) for part in (taus[:half], taus[half:])]
    assert whole[0] == whole[1]
    assert f"{whole[0]} of the {half} steps of each model are computed in full" in notes(workflow)
