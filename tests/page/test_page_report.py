"""TokenCache Report and Compare with and without TokenCache on ComfyUI's page: numbers, warnings, the slider, and a
reload.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_errors
import pytest
from comfy_page import ComfyPage, comfy_page, needs_chromium
from comfy_server import ComfyServer
from playwright.sync_api import Page, expect
from workflow_page import PROMPTS, tiny_flow_model

WORKFLOW = Path(__file__).resolve().parents[2] / "example_workflows" / "Without and with, step by step.json"
PANEL = {"report": "TokenCache report", "compare": "Comparison with and without TokenCache"}
SECONDS = 60_000
VERDICT = re.compile(
    "^(The same picture|Hard to tell apart|Close: fine details|Details differ: |Clearly different pictures: )"
)
LAPTOP = (1366, 768)
NEW_COMPARE = """() => {
    app.graph.clear()
    const node = LiteGraph.createNode('TokenCacheCompare')
    app.graph.add(node)
    node.pos = [0, 40]
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [100, 60]
    app.canvas.setDirty(true, true)
    return new Promise(done => setTimeout(() => done([...node.boundingRect]), 300))
}"""
ADD_COMPARE = """() => {
    const byTitle = title => app.graph.nodes.find(node => node.title === title)
    const compare = LiteGraph.createNode('TokenCacheCompare')
    app.graph.add(compare)
    compare.pos = [-600, -400]
    const sampler = byTitle('KSampler with TokenCache')
    for (const name of ['model', 'positive', 'negative', 'latent_image']) {
        const link = app.graph.links.get(sampler.inputs.find(input => input.name === name).link)
        app.graph.getNodeById(link.origin_id).connect(link.origin_slot, compare, compare.inputs.findIndex(input => input.name === name))
    }
    const vae = app.graph.nodes.find(node => node.type === 'VAELoader')
    vae.connect(0, compare, compare.inputs.findIndex(input => input.name === 'vae'))
    for (const [name, value] of Object.entries({steps: 12, cfg: 3.5, sampler_name: 'euler', scheduler: 'simple'}))
        compare.widgets.find(widget => widget.name === name).value = value
    app.canvas.ds.scale = 0.8
    app.canvas.ds.offset = [720, 460]
    app.canvas.setDirty(true, true)
}"""
TO_REPORT = """() => {
    const report = app.graph.nodes.find(node => node.type === 'TokenCacheReport')
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [200 - report.pos[0], 250 - report.pos[1]]
    app.canvas.setDirty(true, true)
}"""

ANOTHER_SEED = """() => {
    const sampler = app.graph.nodes.find(node => node.title === 'KSampler with TokenCache')
    sampler.widgets.find(widget => widget.name === 'seed').value = 2
}"""
pytestmark = [pytest.mark.server, needs_chromium]


@pytest.fixture(scope="module")
def comfy(comfy_server: ComfyServer) -> Iterator[ComfyPage]:
    with comfy_page(comfy_server) as comfy:
        yield comfy


def tiny_workflow(comfy_server: ComfyServer) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    tiny_flow_model(comfy_server, "reported.safetensors")
    values = {
        "Load Small Flux": {"model_name": "reported.safetensors"},
        "Nine prompts, a line each": {"text": PROMPTS},
        "Empty pixel latent": {"width": 32, "height": 32, "batch_size": 2},
        "KSampler without TokenCache": {"steps": 12},
        "KSampler with TokenCache": {"steps": 12},
    }
    return json.loads(WORKFLOW.read_text(encoding="utf-8")), values


def check_report(page: Page) -> None:
    page.evaluate(TO_REPORT)
    panel = page.get_by_label(PANEL["report"])
    expect(panel).to_contain_text("estimate", timeout=SECONDS)
    expect(panel).to_contain_text(re.compile(r"Run: 12 steps, 32 x 32 px, node 9, finished at \d\d:\d\d:\d\d"))
    expect(panel).to_contain_text("6 I-steps, 6 P-steps")
    expect(panel).to_contain_text("12 steps are few to cache")
    assert panel.locator(".big").inner_text().split("x")[0].replace(".", "").isdigit()
    assert panel.locator(".bars div").count() == 12 and panel.locator(".bars .whole").count() == 6
    strip, *bars = panel.locator(".bars, .bars div").evaluate_all("all => all.map(one => one.clientHeight)")
    assert 26 <= strip == max(bars), "the strip takes what room there is, and the slowest evaluation all of the strip"


def test_report_and_comparison_on_the_page(comfy: ComfyPage, comfy_server: ComfyServer):
    page, said = comfy.page, page_errors.listen(comfy.page)
    comfy.open(*tiny_workflow(comfy_server))
    page.evaluate(ADD_COMPARE)
    expect(page.get_by_label(PANEL["compare"])).to_contain_text("Run the workflow")
    comfy.run_to_the_end(comfy_server, SECONDS / 1000)

    compare = page.get_by_label(PANEL["compare"])
    expect(compare).to_contain_text("measured", timeout=SECONDS)
    expect(compare.locator(".verdict")).to_have_text(VERDICT)
    expect(compare).to_contain_text("PSNR")
    expect(compare).to_contain_text("12 steps are few to cache")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.tokencache-panel .frame img')].every(image => image.naturalWidth > 0)"
    )
    check_slider(page)
    compare.get_by_label("which picture").press("ArrowRight")
    expect(compare).to_contain_text("2 of 2: PSNR")

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    compare.get_by_role("button", name="Copy").click()
    expect(compare.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()").startswith("TokenCache: ")
    check_report(page)

    comfy.reload()  # the page opens the same workflow by itself
    expect(page.get_by_label(PANEL["compare"])).to_contain_text("measured", timeout=SECONDS)
    check_report(page)
    assert not comfy.errors and not said, "\n".join([*comfy.errors, *said])


def check_slider(page: Page) -> None:
    """It moves by mouse and by key, and the pixels follow: plain on the left, cached on the right."""
    frame, slider = (
        page.locator(".tokencache-panel .frame"),
        page.get_by_label("how much of the picture is without TokenCache"),
    )
    node = page.evaluate("() => [...app.graph.nodes.find(node => node.type === 'TokenCacheCompare').pos]")
    box = frame.bounding_box()
    middle = frame.screenshot()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert float(slider.input_value()) == pytest.approx(90, abs=2)
    right = frame.screenshot()
    for key, place in (("ArrowLeft", 85), ("ArrowLeft", 80), ("Shift+ArrowRight", 81)):
        before = frame.screenshot()
        slider.press(key)
        assert float(slider.input_value()) == pytest.approx(place, abs=2)
        assert frame.screenshot() != before
    slider.press("Home")
    left = frame.screenshot()
    assert len({middle, right, left}) == 3
    # the node stayed
    assert page.evaluate("() => [...app.graph.nodes.find(node => node.type === 'TokenCacheCompare').pos]") == node


def test_a_new_compare_fits_a_small_screen(comfy: ComfyPage, comfy_server: ComfyServer):
    with comfy_page(comfy_server, size=LAPTOP, beside=comfy) as small:
        small.page.evaluate(NEW_COMPARE)
        box = small.page.get_by_label(PANEL["compare"]).bounding_box()
        assert box["y"] > 0 and box["y"] + box["height"] < LAPTOP[1] and box["height"] >= 300


def test_a_report_of_another_workflow_is_not_shown(comfy: ComfyPage, comfy_server: ComfyServer):
    workflow, values = tiny_workflow(comfy_server)
    comfy.open(
        {**workflow, "id": "00000000-1111-4222-8333-444444444444"}, {**values, "KSampler with TokenCache": {"steps": 7}}
    )
    comfy.page.evaluate(TO_REPORT)
    expect(comfy.page.get_by_label(PANEL["report"])).to_contain_text(
        "Run the workflow to see what the cache did.", timeout=SECONDS
    )
    assert not comfy.errors


def test_the_first_run_calibrates_and_the_second_says_by_what(comfy: ComfyPage, comfy_server: ComfyServer):
    folder = comfy_server.models / "tokencache"
    before = set(folder.glob("*.json"))
    try:
        workflow, values = tiny_workflow(comfy_server)
        values["KSampler with TokenCache"] = {"steps": 14, "seed": 1}
        values["Load Small Flux"] = {"model_name": "calibrated.safetensors"}
        tiny_flow_model(comfy_server, "calibrated.safetensors", depth=3)
        comfy.open(workflow, {**values, "Apply TokenCache": {"calibrate_on_first_run": True}})
        comfy.page.evaluate(TO_REPORT)
        panel = comfy.page.get_by_label(PANEL["report"])
        comfy.run_to_the_end(comfy_server, SECONDS / 1000)
        (file,) = set(folder.glob("*.json")) - before
        expect(panel).to_contain_text(
            f"I-steps: every step, to calibrate: the next runs take theirs from tokencache/{file.name}", timeout=SECONDS
        )
        expect(panel).to_contain_text("14 I-steps, 0 P-steps")
        expect(panel.locator(".big")).to_have_text("–")  # no speed-up to be shown
        expect(panel.locator(".left")).to_contain_text("calibrating")

        comfy.page.evaluate(ANOTHER_SEED)
        comfy.run_to_the_end(comfy_server, SECONDS / 1000)
        expect(panel).to_contain_text(f"I-steps: by the calibration {file.name}", timeout=SECONDS)
        expect(panel).to_contain_text("6 I-steps, 8 P-steps")
        assert set(folder.glob("*.json")) - before == {file} and not comfy.errors
    finally:
        for file in set(folder.glob("*.json")) - before:
            file.unlink()
