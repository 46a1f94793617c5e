"""The two routes of a training in a real server: numbers alone, a stop that keeps the work, and a clear word where
nothing runs.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfy_server import ComfyServer
from tiny_dit import tiny_dit_file
from tokencache_pack.nodes.host import training_routes
from tokencache_pack.nodes.host.progress_on_page import workflow_id
from workflow_to_api import read_workflow, to_api

from tokencache_core.predictor.file import read_trained_cache

WORKFLOW = Path(__file__).resolve().parents[2] / "example_workflows" / "Train a predictor for your model.json"
WORKFLOW_ID = "12345678-1234-4321-8765-123456789abc"
# what a page of another origin can send without asking first, to this computer or to another in its network
ELSEWHERE = (
    {"Content-Type": "text/plain", "Origin": "http://elsewhere.example", "Host": "192.168.1.5:8188"},
    {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://elsewhere.example"},
    {"Content-Type": "application/json", "Origin": "http://elsewhere.example"},  # to this computer: the host refuses
    {"Content-Type": "multipart/form-data; boundary=x", "Origin": "null"},
)
PHASES = {"preparing", "training", "measuring", "over"}


def wait_for(what: Callable[[], Any], server: ComfyServer, seconds: float = 90.0) -> Any:
    give_up = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < give_up, f"nothing happened; the server said:\n{server.log_tail()}"
        time.sleep(0.1)
    return found


JSON = {"Content-Type": "application/json"}


def stop(server: ComfyServer, headers: dict[str, str] = JSON) -> tuple[int, dict[str, Any]]:
    """Status and reply."""
    request = urllib.request.Request(
        f"http://{server.address}{training_routes.STOP}", b"", headers=headers, method="POST"
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def only_numbers(numbers: dict[str, Any], node: str) -> None:
    words = {name: value for name, value in numbers.items() if isinstance(value, str)}
    assert words == {"phase": numbers["phase"], "node": node, "workflow": WORKFLOW_ID} and numbers["phase"] in PHASES
    for name, value in numbers.items():
        if name in ("loss", "held_out"):
            assert all(len(pair) == 2 and all(isinstance(part, (int, float)) for part in pair) for pair in value)
        elif name not in words:
            assert value is None or isinstance(value, (bool, int, float))


@pytest.mark.server
def test_a_training_is_seen_stopped_and_kept(comfy_server: ComfyServer, predictor_file: Path):
    wait_for(lambda: not comfy_server.get("/queue")["queue_running"], comfy_server)
    assert stop(comfy_server) == (409, {"running": False, "error": "no training is running"})
    assert not comfy_server.get(training_routes.TRAINING.route)["running"]

    folder = comfy_server.output / "diffusion_models"  # ComfyUI looks for models there too
    folder.mkdir(exist_ok=True)
    tiny_dit_file(
        folder / "routed.safetensors", in_channels=3, input_size=32, num_classes=9, width=32, depth=2, heads=1
    )
    prompt = to_api(read_workflow(WORKFLOW), comfy_server.get("/object_info"))
    by_title = {node["_meta"]["title"]: (number, node["inputs"]) for number, node in prompt.items()}
    node, inputs = by_title["Train Cache Predictor"]
    inputs.update(minutes=100.0, steps=8, save_as=predictor_file.stem)
    by_title["Load DiT"][1]["dit_name"] = "routed.safetensors"
    by_title["Empty pixel latent"][1]["batch_size"] = 2
    by_title["Classes of the training runs"][1]["label"] = "0, 1"
    by_title["Classes of the pictures"][1]["label"] = "4, 5"
    by_title["Compare with and without TokenCache"][1]["steps"] = 4
    body = {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": {"id": WORKFLOW_ID}}}}
    number = comfy_server.post("/prompt", body)["prompt_id"]

    def numbers() -> dict[str, Any]:
        return comfy_server.get(training_routes.TRAINING.route)

    seen = wait_for(lambda: (found := numbers())["running"] and found["iteration"] and found, comfy_server)
    only_numbers(seen, node)
    assert seen["running"] and seen["loss"] and 5900 < seen["seconds_left"] < 6000 and seen["predicted"] > 1
    for elsewhere in ELSEWHERE:
        assert stop(comfy_server, elsewhere)[0] in (403, 415) and numbers()["running"] and not numbers()["stopping"]
    status, reply = stop(comfy_server)
    assert status == 200 and reply["stopping"]
    assert stop(comfy_server)[0] in (200, 409)  # again: harmless
    run = wait_for(lambda: comfy_server.get(f"/history/{number}"), comfy_server)[number]
    assert run["status"]["status_str"] == "success"
    kept = read_trained_cache(predictor_file)
    last = numbers()
    only_numbers(last, node)
    assert last["phase"] == "over" and last["iteration"] == len(kept.log) == kept.log[-1].iteration
    assert last["speedup"] == float(kept.notes["held_out_speedup"]) and last["held_out"]
    assert stop(comfy_server)[0] == 409


@pytest.mark.parametrize(
    "given",
    [None, {}, {"workflow": None}, {"workflow": {"id": "/etc/passwd"}}, {"workflow": {"id": 3}}, {"workflow": "text"}],
)
def test_a_workflow_without_a_proper_id_has_none(given: Any):
    assert workflow_id(given) == ""


def test_without_a_server_there_are_no_routes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(training_routes.PromptServer, "instance", raising=False)
    training_routes.add_routes()
    training_routes.TRAINING.tell()


def test_the_routes_are_added_once(monkeypatch: pytest.MonkeyPatch):
    # what a server is made into, taken back at the end
    monkeypatch.setattr(training_routes.PromptServer, "instance", None, raising=False)
    loop = asyncio.new_event_loop()
    server = training_routes.PromptServer(loop)
    loop.close()
    for _ in range(2):
        training_routes.add_routes()
    ours = [(route.method, route.path) for route in server.routes if "tokencache" in getattr(route, "path", "")]
    assert ours == [("GET", training_routes.TRAINING.route), ("POST", training_routes.STOP)]
