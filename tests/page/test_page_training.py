"""Training from ComfyUI's page: its panel shows how it goes, a reload too; stopping and cancelling keep the work, and
the file serves.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from comfy_page import ComfyPage, comfy_page, needs_chromium
from comfy_server import ComfyServer
from playwright.sync_api import Locator, expect
from workflow_page import tiny_model

from tokencache_core.predictor.file import read_trained_cache

WORKFLOW = Path(__file__).resolve().parents[2] / "example_workflows" / "Train a predictor for your model.json"
SECONDS = 300_000  # milliseconds
GOING = re.compile(r"^iteration \d+, 1:[0-4]\d:\d\d left$")  # of 100 minutes, however slow the machine
TO_THE_PANEL = """() => {
    const node = app.graph.nodes.find(node => node.type === 'TokenCacheTrainPredictor')
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [400 - node.pos[0], 900 - node.pos[1] - node.size[1]]
    app.canvas.setDirty(true, true)
}"""
FIRST_ITERATION = """left => {
    const node = app.graph.nodes.find(node => node.type === 'TokenCacheTrainPredictor')
    app.api.dispatchCustomEvent('tokencache.training', {
        running: true, phase: 'training', stopping: false, node: String(node.id), workflow: app.rootGraph.id,
        iteration: 0, seconds: 61, seconds_left: left, loss: [], held_out: [], predicted: 2,
        speedup: null, held_out_without: null, psnr: null, psnr_without: null, psnr_random: null,
    })
}"""
PICTURES = "() => app.graph.nodes.find(node => node.type === 'TokenCacheTrainPredictor').imgs?.length ?? 0"
pytestmark = [pytest.mark.server, needs_chromium]


@pytest.fixture(scope="module")
def comfy(comfy_server: ComfyServer) -> Iterator[ComfyPage]:
    with comfy_page(comfy_server) as comfy:
        yield comfy


def wait_for(what: Callable[[], object], server: ComfyServer, seconds: float = 300.0) -> None:
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up, f"nothing happened; the server said:\n{server.log_tail()}"
        time.sleep(0.2)


def open_training(comfy: ComfyPage, server: ComfyServer, file: Path, seed: int) -> Locator:
    """The example on a tiny model, and its training's panel. seed: another one for each, or the host would take what it
    has.
    """
    tiny_model(server, "paged.safetensors", width=32, depth=2, heads=1)
    # the server remembers others' trainings in the example
    workflow = {**json.loads(WORKFLOW.read_text(encoding="utf-8")), "id": str(uuid4())}
    comfy.open(
        workflow,
        {
            "Load DiT": {"dit_name": "paged.safetensors"},
            "Empty pixel latent": {"batch_size": 2},
            "Classes of the training runs": {"label": "0, 1"},
            "Classes of the pictures": {"label": "4, 5"},
            "Train Cache Predictor": {"minutes": 100.0, "steps": 8, "save_as": file.stem, "seed": seed},
            "Compare with and without TokenCache": {"steps": 4},
        },
    )
    return panel_of(comfy)


def panel_of(comfy: ComfyPage) -> Locator:
    comfy.page.evaluate(TO_THE_PANEL)
    return comfy.page.get_by_role("group", name="Training", exact=True)


def newest_run(server: ComfyServer) -> dict[str, Any]:
    wait_for(lambda: not server.get("/queue")["queue_running"], server)
    return max(server.get("/history").values(), key=lambda run: run["prompt"][0])["status"]


def test_a_training_is_watched_through_a_reload_stopped_and_kept(
    comfy: ComfyPage, comfy_server: ComfyServer, predictor_file: Path
):
    panel = open_training(comfy, comfy_server, predictor_file, seed=1)
    chart, stop = panel.locator(".chart"), panel.get_by_role("button", name="Stop and keep")
    expect(panel).to_contain_text("Run the workflow")
    assert stop.count() == 0
    comfy.run()
    expect(panel.get_by_role("status")).to_have_text(GOING, timeout=SECONDS)
    expect(panel).to_contain_text("predicted")
    expect(chart.locator("polyline.loss")).to_have_count(1)
    expect(chart.locator("circle.held-out").first).to_be_visible(timeout=SECONDS)
    expect(panel).to_contain_text("by the clock")
    before, seen = chart.screenshot(), chart.get_attribute("aria-label")
    expect(chart).not_to_have_attribute("aria-label", seen, timeout=SECONDS)
    assert chart.screenshot() != before
    axis = chart.locator("text").all_text_contents()
    assert sum(text.replace(".", "").isdigit() for text in axis) >= 4 and {"seconds", "minutes"} & set(axis)
    assert comfy.page.evaluate(PICTURES) == 0  # the panel is in the place of the chart's picture

    workflow = comfy.page.evaluate("() => app.graph.serialize()")
    comfy.reload()
    comfy.open(workflow, {})
    panel_of(comfy)
    expect(panel.get_by_role("status")).to_have_text(GOING, timeout=SECONDS)
    expect(chart.locator("circle.held-out").first).to_be_visible()
    seen = chart.get_attribute("aria-label")
    expect(chart).not_to_have_attribute("aria-label", seen, timeout=SECONDS)  # and it goes on
    stop.click()
    wait_for(predictor_file.exists, comfy_server)
    expect(panel.get_by_role("status")).to_have_text(
        re.compile(r"^stopped after \d+ iterations?, \d+:\d\d$"), timeout=SECONDS
    )
    expect(stop).to_be_hidden()
    expect(panel).to_contain_text(
        re.compile(r"(W|Not w)orth loading: [\d.]+ dB .* without it .* random tokens [\d.]+ dB")
    )
    assert newest_run(comfy_server)["status_str"] == "success"
    assert not comfy.errors
    trained = read_trained_cache(predictor_file)
    assert trained.predictor is not None and "held_out_speedup" in trained.notes


def test_another_workflow_does_not_show_it(comfy: ComfyPage, comfy_server: ComfyServer, predictor_file: Path):
    """Nor the same node of a workflow of another id."""
    panel = open_training(comfy, comfy_server, predictor_file, seed=2)
    workflow = comfy.page.evaluate("() => app.graph.serialize()")
    comfy.run()
    expect(panel.get_by_role("status")).to_have_text(GOING, timeout=SECONDS)
    comfy.open({**workflow, "id": "00000000-1111-4222-8333-444444444444"}, {})
    other = panel_of(comfy)
    seen = comfy_server.get("/tokencache/training")["iteration"]
    wait_for(lambda: comfy_server.get("/tokencache/training")["iteration"] > seen + 1, comfy_server)
    expect(other).to_contain_text("Run the workflow")
    comfy_server.post("/interrupt", {})
    newest_run(comfy_server)
    assert not comfy.errors


def test_cancelling_from_the_page_keeps_what_was_learned(
    comfy: ComfyPage, comfy_server: ComfyServer, predictor_file: Path
):
    panel = open_training(comfy, comfy_server, predictor_file, seed=3)
    comfy.run()
    expect(panel.get_by_role("status")).to_have_text(GOING, timeout=SECONDS)
    assert not predictor_file.exists()
    comfy.cancel()
    wait_for(predictor_file.exists, comfy_server)
    expect(panel.get_by_role("status")).to_have_text(
        re.compile(r"^ended after \d+ iterations?, \d+:\d\d$"), timeout=SECONDS
    )
    assert not comfy.errors
    trained = read_trained_cache(predictor_file)
    assert trained.log and trained.predictor is not None
    status = newest_run(comfy_server)
    assert status["status_str"] == "error" and "execution_interrupted" in [name for name, _ in status["messages"]]


def test_a_first_iteration_that_takes_longer_than_asked_for_says_so(
    comfy: ComfyPage, comfy_server: ComfyServer, predictor_file: Path
):
    status = open_training(comfy, comfy_server, predictor_file, seed=4).get_by_role("status")
    comfy.page.evaluate(FIRST_ITERATION, 90)
    expect(status).to_have_text(re.compile(r"^first iteration, 1:\d\d left$"))
    comfy.page.evaluate(FIRST_ITERATION, 1)
    expect(status).to_have_text("first and only iteration: minutes are fewer than it takes")
    assert not comfy.errors
