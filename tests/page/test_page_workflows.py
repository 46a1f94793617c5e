"""Every example workflow on ComfyUI's page: it opens as it was drawn; those without downloads run, and their panels
show numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_page import needs_chromium
from comfy_server import ComfyServer
from playwright.sync_api import expect
from workflow_page import (
    OPEN,
    PROMPTS,
    SHOWS,
    SMALL,
    TINY,
    TINY_FLOW,
    WorkflowPage,
    check_run,
    missing,
    overlapping,
    workflow_page,
)
from workflow_to_api import read_workflow, to_api

from example_workflows import EVERY, FOLDER, for_every_workflow, needs_no_download

STEP_BY_STEP = "Without and with, step by step"
PLACES = f"{__name__}_places"
STEPS = 14  # enough for a report to have no more to say than of a usual run
# workflow -> what makes it a short run of a small model, or where a predictor binds it to the pack's own, of one
# picture
SHORT = {
    "Quick start, the same pictures faster": {
        **TINY_FLOW,
        "Four prompts, a line each": {"text": PROMPTS},
        "Compare with and without TokenCache": {"steps": STEPS},
    },
    "Small video, the same clip faster": {"Compare with and without TokenCache": {"steps": STEPS}},
    "Without and with, step by step": {
        **TINY_FLOW,
        "Nine prompts, a line each": {"text": PROMPTS},
        "KSampler without TokenCache": {"steps": STEPS},
        "KSampler with TokenCache": {"steps": STEPS},
    },
    "Sample with a trained predictor": {
        "Empty pixel latent": {"batch_size": 1},
        "KSampler with the trained predictor": {"steps": STEPS},
    },
    "Train a predictor for your model": {
        **TINY,
        "Classes of the training runs": {"label": "0, 1"},
        "Classes of the pictures": {"label": "2, 3"},
        "Compare with and without TokenCache": {"steps": STEPS},
        "Train Cache Predictor": {"steps": STEPS, "minutes": 0.02, "save_as": __name__},
    },
    "Closer pictures at the same speed": {
        **TINY_FLOW,
        "Four prompts, a line each": {"text": PROMPTS},
        "Calibrate I-Steps": {"steps": STEPS, "i_steps": 4, "save_as": PLACES},
        "Compare with and without TokenCache": {"steps": STEPS},
    },
    "Settings for 3x or 35 dB": {
        **TINY,
        "Classes of the four pictures": {"label": "0, 1"},
        "Tune TokenCache": {"steps": STEPS, "goal": "psnr", "value": 5, "minutes": 1, "save_as": __name__},
        "Compare with and without TokenCache": {"steps": STEPS},
    },
    "Can caching pay on your model": {
        **TINY_FLOW,
        "Four prompts, a line each": {"text": PROMPTS},
        "Compare with and without TokenCache": {"steps": STEPS},
        "Measure Redundancy": {"steps": STEPS},
    },
}
PANELS = {  # node -> where its panel says so once it has run
    "TokenCacheReport": ("TokenCache report", ".big", r"^\d+\.\d\dx$"),
    "TokenCacheHeatmap": ("Token heatmap player", ".text", rf"^step 1 of {STEPS}, I, [\d.]+ s, 100 % computed"),
    "TokenCacheCompare": ("Comparison with and without TokenCache", ".big", r"^\d+\.\d\dx$"),
    "TokenCacheRedundancy": ("Redundancy player", ".text", rf"^step \d of {STEPS}, I, .* mean change [\d.]+ %$"),
    "TokenCacheTuning": ("Tuning", "[role=status]", r"^\d+ trials for 5\.0 dB in \d+ s$"),
    "TokenCacheTrainPredictor": ("Training", "[role=status]", r"^\w+ after \d+ iterations?, \d+:\d\d$"),
}
PLAYERS = ["TokenCacheHeatmap", "TokenCacheRedundancy"]
LEAST_ZOOM = 0.6
LARGE = {"width": 1600, "height": 1000}
GROWN = 150  # pixels, at least, by which a node grows when it shows all settings
VIEW = """async () => {
    await new Promise(done => setTimeout(done, 400))
    const {scale, offset} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect()
    const outside = app.graph.nodes.filter(node => {
        const [x, y, width, height] = node.boundingRect
        const [left, top] = [(x + offset[0]) * scale + box.left, (y + offset[1]) * scale + box.top]
        return left < 50 || top < 50 || left + width * scale > innerWidth || top + height * scale > innerHeight
    }).map(node => node.title)
    return [scale, outside]
}"""
# titles of players that the page's map covers
UNDER_THE_MAP = """kinds => {
    const map = document.querySelector('[data-testid="minimap-container"]').getBoundingClientRect()
    const {scale, offset} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect()
    return app.graph.nodes.filter(node => {
        const [x, y, width, height] = node.boundingRect
        const [right, bottom] = [(x + width + offset[0]) * scale + box.left, (y + height + offset[1]) * scale + box.top]
        return kinds.includes(node.type) && right > map.left && bottom > map.top
    }).map(node => node.title)
}"""
SHOW_ALL_SETTINGS = """() => app.graph.nodes.flatMap(node => {
    const button = node.widgets?.find(widget => widget.name === 'all_settings')
    if (!button) return []
    const before = node.size[1]
    button.callback()
    node.updateArea()
    return node.size[1] - before
})"""
FITS = """([panel, kind]) => {
    if (panel.scrollHeight <= panel.clientHeight + 1) return true
    const hasNoRoom = node => {  // a reader scrolls: the node has grown as far as the next one
        const [left, top, width, height] = node.boundingRect
        return app.graph.nodes.some(other => {
            const [x, y, across] = other.boundingRect
            return y >= top + height && y < top + height + 20 && x < left + width && left < x + across
        })
    }
    return app.graph.nodes.filter(node => node.type === kind).every(hasNoRoom)
}"""
pytestmark = [pytest.mark.server, needs_chromium]


@pytest.fixture(scope="module")
def page(comfy_server: ComfyServer) -> Iterator[WorkflowPage]:
    with workflow_page(comfy_server) as page:
        yield page


@pytest.fixture
def no_files_left(comfy_server: ComfyServer) -> Iterator[None]:
    """Of what a run writes where the server keeps predictors, presets and calibrations."""
    folder = comfy_server.models / "tokencache"
    written = [folder / name for name in (f"{__name__}.safetensors", f"{__name__}.json", f"{PLACES}.json")]
    for file in written:
        file.unlink(missing_ok=True)
    yield
    for file in written:
        file.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def object_info(comfy_server: ComfyServer) -> dict[str, Any]:
    return comfy_server.get("/object_info")


@for_every_workflow
def test_it_opens_as_it_was_drawn(page: WorkflowPage, object_info, file: Path):
    workflow = read_workflow(file)
    page.open(workflow)
    nodes = page.nodes()
    assert sorted(node["type"] for node in nodes) == sorted(node["type"] for node in workflow["nodes"])
    assert not missing(nodes)
    assert not overlapping(nodes)
    sent = page.prompt()
    for number, node in to_api(workflow, object_info).items():
        assert node["inputs"].items() <= sent[number]["inputs"].items(), node["class_type"]
    page.page.wait_for_timeout(200)  # an error may come late
    page.check_errors()


@for_every_workflow
def test_it_opens_readably_on_a_small_screen(page: WorkflowPage, file: Path):
    """As the template browser opens it: nothing smaller than 60 %, all of it in sight, and no player under the map."""
    workflow = read_workflow(file)
    page.page.set_viewport_size(SMALL)
    try:
        page.page.evaluate(OPEN, [workflow, file.stem])
        page.page.wait_for_function(SHOWS, arg=[node["id"] for node in workflow["nodes"]])
        scale, outside = page.page.evaluate(VIEW)
        covered = page.page.evaluate(UNDER_THE_MAP, PLAYERS)
    finally:
        page.page.set_viewport_size(LARGE)
    assert scale >= LEAST_ZOOM and not outside
    assert not covered


@for_every_workflow
def test_nodes_that_show_all_settings_cover_no_other(page: WorkflowPage, file: Path):
    page.open(read_workflow(file))
    grown = page.page.evaluate(SHOW_ALL_SETTINGS)
    assert grown and min(grown) > GROWN
    assert not overlapping(page.nodes())


@pytest.mark.parametrize("name", SHORT)
def test_it_runs_and_its_panels_show_numbers(page: WorkflowPage, no_files_left, name: str):
    page.open(read_workflow(FOLDER / f"{name}.json"), SHORT[name])
    check_run(page.run())
    nodes = page.nodes()
    shown = [(node["type"], *PANELS[node["type"]]) for node in nodes if node["type"] in PANELS]
    assert shown
    for kind, label, place, numbers in shown:
        panels = page.page.get_by_role("group", name=label, exact=True)
        assert panels.count() == shown.count((kind, label, place, numbers))
        for panel in panels.all():
            expect(panel.locator(place).first).to_have_text(re.compile(numbers), timeout=10_000)
            page.page.wait_for_function(FITS, arg=[panel.element_handle(), kind])
    assert not overlapping(page.nodes())
    page.check_errors()


def test_with_apply_tokencache_bypassed_it_runs_uncached_and_its_panels_say_so(page: WorkflowPage):
    page.open(read_workflow(FOLDER / f"{STEP_BY_STEP}.json"), SHORT[STEP_BY_STEP])
    page.page.evaluate("() => { app.graph.nodes.find(node => node.type === 'TokenCacheApply').mode = 4 }")
    check_run(page.run())
    for label in ("TokenCache report", "Token heatmap player"):
        panel = page.page.get_by_role("group", name=label, exact=True)
        expect(panel).to_contain_text("Apply TokenCache is bypassed, so this run was not cached", timeout=10_000)
    page.check_errors()


def test_every_workflow_without_downloads_is_run():
    bundled = {file.stem for file in EVERY if needs_no_download(file)}
    assert bundled == set(SHORT)
