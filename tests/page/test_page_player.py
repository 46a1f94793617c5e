"""The player of Cache Heatmap Preview in ComfyUI's page: it plays a run, after a reload and from a saved picture too,
and never breaks the page.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_errors
import pytest
from comfy_page import ComfyPage, comfy_page, needs_chromium
from comfy_server import ComfyServer
from playwright.sync_api import Locator, expect

WORKFLOW = json.loads(
    (Path(__file__).resolve().parents[2] / "example_workflows" / "Without and with, step by step.json").read_text(
        encoding="utf-8"
    )
)
STEPS = 12
CHANGED = {  # node's id -> place among its widgets -> value: a short run of two pictures
    8: {2: 1},
    9: {2: STEPS},
    3: {2: 2},
    5: {0: "google grinning face\ntwitter red heart"},
    7: {3: 0.7, 7: 1, 9: "uniform"},  # cache_ratio, last_blocks, shares
}
TO_THE_NODE = """() => {
    const node = app.graph.nodes.find(node => node.type === 'TokenCacheHeatmap')
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [200 - node.pos[0], 100 - node.pos[1]]
    app.canvas.setDirty(true, true)
}"""
SENTENCE = "Run the workflow to see which tokens each step computes."
pytestmark = [pytest.mark.server, needs_chromium]


def workflow() -> dict[str, Any]:
    changed = copy.deepcopy(WORKFLOW)
    for node in changed["nodes"]:
        for place, value in CHANGED.get(node["id"], {}).items():
            node["widgets_values"][place] = value
    return changed


class PlayerPage:
    """The page with the quick start's workflow, its player in sight."""

    def __init__(self, page: ComfyPage) -> None:
        self.comfy, self.page = page, page.page
        self.said = page_errors.listen(self.page)
        self.player: Locator = self.page.get_by_role("group", name="Token heatmap player")
        self.text, self.notes = self.player.locator(".text"), self.player.locator(".notes")
        self.step = self.player.get_by_label("step", exact=True)
        self.block = self.player.get_by_label("block")

    def open(self) -> None:
        self.comfy.open(workflow(), {})
        self.page.evaluate(TO_THE_NODE)

    def run(self) -> None:
        self.comfy.run()
        self.at(1)

    def at(self, step: int) -> None:
        expect(self.text).to_have_text(re.compile(f"^step {step} of {STEPS}, [IP], "), timeout=90_000)

    def drawn(self) -> str:
        """The picture with its tokens, once it has been loaded."""
        stage = self.player.locator(".stage")
        expect(stage).to_have_attribute("aria-busy", "false")
        return stage.evaluate("canvas => canvas.toDataURL()")

    def no_errors(self) -> None:
        assert not self.comfy.errors and not self.said, "\n".join([*self.comfy.errors, *self.said])


@pytest.fixture(scope="module")
def loaded(comfy_server: ComfyServer) -> Iterator[ComfyPage]:
    with comfy_page(comfy_server) as comfy:
        yield comfy


@pytest.fixture
def page(comfy_server: ComfyServer, loaded: ComfyPage) -> Iterator[PlayerPage]:
    comfy_server.post("/history", {"clear": True})
    player = PlayerPage(loaded)
    player.open()
    yield player
    player.no_errors()


def test_a_run_is_played_by_mouse_and_keyboard(page: PlayerPage):
    expect(page.notes).to_have_text(SENTENCE)
    expect(page.text).to_be_hidden()
    page.run()
    first = page.drawn()
    page.step.fill("2")
    page.at(3)
    expect(page.text).to_contain_text(re.compile("P, .* computed"))
    some = page.drawn()
    assert some != first
    page.block.select_option("7")  # the last block is whole
    expect(page.text).to_contain_text("100 % computed")
    assert page.drawn() == first
    page.player.get_by_label("opacity").fill("0")
    bare = page.drawn()
    page.player.get_by_label("picture", exact=True).fill("1")
    expect(page.player.get_by_text("picture 2 of 2")).to_be_visible()
    assert page.drawn() != bare
    page.player.focus()
    for key, step in (("End", STEPS), ("ArrowLeft", STEPS - 1), ("Home", 1), ("ArrowRight", 2)):
        page.page.keyboard.press(key)
        page.at(step)
    page.page.keyboard.press("Space")
    expect(page.player.get_by_role("button", name="pause")).to_be_visible()
    page.at(STEPS)
    expect(page.player.get_by_role("button", name="play")).to_be_visible()
    page.player.locator(".strip").click(position={"x": 3, "y": 20})
    page.at(1)
    assert page.step.get_attribute("aria-valuetext").startswith(f"step 1 of {STEPS}, I, ")


def test_a_run_is_there_after_a_reload_and_in_a_saved_picture(page: PlayerPage, comfy_server: ComfyServer):
    page.comfy.run_to_the_end(comfy_server, 90)
    page.comfy.reload()
    page.at(1)
    expect(page.notes).to_be_hidden()
    saved = next(image for run in comfy_server.get("/history").values() for image in run["outputs"]["13"]["images"])
    load = """async ({ filename, subfolder, type }) => {
        const reply = await fetch(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
        await app.handleFile(new File([await reply.blob()], filename, { type: 'image/png' }))
    }"""
    page.page.evaluate(load, saved)
    page.at(1)
    expect(page.notes).to_have_text(
        re.compile(r"^(From an earlier run with the same settings\.)?$")  # the page may take it for another copy
    )
    comfy_server.post("/history", {"clear": True})
    page.page.evaluate(load, saved)
    expect(page.notes).to_have_text(SENTENCE)
    assert "player" not in json.dumps(
        page.page.evaluate("app.graph.serialize().nodes.map(node => node.widgets_values ?? [])")
    )


def test_the_newest_run_of_the_workflow_is_shown_with_a_remark_where_settings_have_changed(page: PlayerPage):
    page.run()
    page.page.evaluate("""() => {
        const changed = app.graph.serialize()
        changed.nodes.find(node => node.title === 'KSampler with TokenCache').widgets_values[0] = 7
        return app.loadGraphData(changed)
    }""")
    page.at(1)
    expect(page.notes).to_have_text("From this workflow's newest run, which had other settings.")


def test_a_run_of_another_copy_of_the_workflow_is_shown_as_one(page: PlayerPage):
    page.run()
    page.page.evaluate("""() => {
        const { id, ...copy } = app.graph.serialize()
        return app.loadGraphData(copy)
    }""")
    page.at(1)
    expect(page.notes).to_have_text("From an earlier run with the same settings.")


def test_in_the_other_way_of_drawing_nodes(comfy_server: ComfyServer, loaded: ComfyPage):
    comfy_server.post("/settings", {"Comfy.VueNodes.Enabled": True})
    try:
        with comfy_page(comfy_server, beside=loaded) as opened:
            page = PlayerPage(opened)
            page.open()
            page.run()
            page.step.fill("2")
            page.at(3)
            before = page.player.bounding_box()
            page.page.evaluate("""() => {
                const node = app.graph.nodes.find(node => node.type === 'TokenCacheHeatmap')
                node.setSize([node.size[0] + 100, node.size[1] + 100])
            }""")
            page.page.wait_for_function(
                "([player, width]) => player.getBoundingClientRect().width > width + 50",
                arg=[page.player.element_handle(), before["width"]],
            )
            page.no_errors()
    finally:
        comfy_server.post("/settings", {"Comfy.VueNodes.Enabled": False})


ADD_REDUNDANCY = """() => {
    const byType = (type, title) => app.graph.nodes.find(node => node.type === type && (!title || node.title === title))
    const measure = LiteGraph.createNode('TokenCacheRedundancy')
    app.graph.add(measure)
    measure.pos = [-600, -1400]
    const sampler = byType('KSampler', 'KSampler with TokenCache')
    for (const name of ['model', 'positive', 'negative', 'latent_image']) {
        const link = app.graph.links.get(sampler.inputs.find(input => input.name === name).link)
        app.graph.getNodeById(link.origin_id).connect(link.origin_slot, measure, measure.inputs.findIndex(input => input.name === name))
    }
    byType('VAELoader').connect(0, measure, measure.inputs.findIndex(input => input.name === 'vae'))
    measure.widgets.find(widget => widget.name === 'steps').value = 6
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [700, 1450]
    app.canvas.setDirty(true, true)
}"""


def test_measured_redundancy_is_played(page: PlayerPage):
    page.page.evaluate(ADD_REDUNDANCY)
    player = page.page.get_by_role("group", name="Redundancy player")
    text, stage = player.locator(".text"), player.locator(".stage")
    expect(player.locator(".notes")).to_contain_text("Run the workflow to see how much each token's update changes")
    page.comfy.run()
    expect(text).to_have_text(re.compile(r"^step 2 of 6, I, .*, mean change [\d.]+ %$"), timeout=90_000)
    expect(player.locator(".notes")).to_contain_text("Verdict: 6 steps are too few")
    expect(stage).to_have_attribute("aria-busy", "false")
    first = stage.evaluate("canvas => canvas.toDataURL()")
    player.get_by_label("step", exact=True).fill("3")
    expect(text).to_contain_text("step 5 of 6")
    assert stage.evaluate("canvas => canvas.toDataURL()") != first


RUN = {
    "version": 1,
    "blocks": 2,
    "images": 1,
    "frames": [0],
    "legend": ["forecast", "computed"],
    "grid": None,
    "maps": None,
    "notes": [],
    "steps": [{"index": 0, "kind": "I", "seconds": 1.0, "sigma": 1.0, "compute": 1.0, "groups": [[0, 1, "all"]]}],
}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "This run has nothing to show."),
        ("x", "This run has nothing to show."),
        ({"version": 1, "notes": ["TokenCache does not know this model."]}, "TokenCache does not know this model."),
        ({**RUN, "version": 9}, "This run cannot be shown: the data is of another version of TokenCache."),
        ({**RUN, "steps": [{"groups": 3}]}, "This run cannot be shown: the data is not a run."),
        ({**RUN, "grid": [1, 2, 2], "maps": {"form": "bits", "count": 1, "data": "?"}}, "This run cannot be shown: "),
        ({**RUN, "notes": ["no map of the tokens"]}, "no map of the tokens"),
    ],
)
def test_whatever_comes_is_a_sentence(player_of_any: PlayerPage, data: object, says: str):
    player_of_any.page.evaluate(
        """data => {
        app.graph.nodes.find(node => node.type === 'TokenCacheHeatmap').onExecuted({ tokencache_player: [data], tokencache_pictures: [] })
    }""",
        data,
    )
    expect(player_of_any.notes).to_contain_text(says)


@pytest.fixture(scope="module")
def player_of_any(loaded: ComfyPage) -> Iterator[PlayerPage]:
    player = PlayerPage(loaded)
    player.open()
    yield player
    player.no_errors()


def test_finer_values_are_drawn_and_tokens_without_places_leave_the_strip(player_of_any: PlayerPage):
    """Two maps of 1 x 2 tokens as bytes: 0 and 255, 51 and 51."""
    maps = "eNpj+G9sDAADmgFm"  # zlib of 00 ff 33 33
    steps = [{**RUN["steps"][0], "groups": [[0, 0, 0], [1, 1, 1]]}]
    data = {
        **RUN,
        "grid": [1, 1, 2],
        "legend": ["still", "moving"],
        "steps": steps,
        "maps": {"form": "bytes", "count": 2, "data": maps},
    }
    show = (
        "data => app.graph.nodes.find(node => node.type === 'TokenCacheHeatmap').onExecuted({ tokencache_player: "
        "[data] })"
    )
    player_of_any.page.evaluate(show, data)
    expect(player_of_any.text).to_contain_text("35 % moving")
    player_of_any.block.select_option("1")
    expect(player_of_any.text).to_contain_text("20 % moving")
    player_of_any.page.evaluate(show, RUN)
    expect(player_of_any.text).to_have_text("step 1 of 1, I, 1.000 s, 100 % of the block-tokens computed")
