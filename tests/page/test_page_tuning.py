"""Tune TokenCache on ComfyUI's page: its trials while it runs, and what it found beside the default."""

from __future__ import annotations

from typing import Any

import pytest
from comfy_page import comfy_page, needs_chromium
from comfy_server import ComfyServer
from playwright.sync_api import expect

NEW = """() => {
    app.graph.clear()
    const node = LiteGraph.createNode('TokenCacheTuning')
    app.graph.add(node)
    node.pos = [0, 40]
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [300, 60]
    app.canvas.setDirty(true, true)
    return [String(node.id), app.rootGraph.id]
}"""
KINDS = "all => all.map(one => one.getAttribute('class')).sort()"
TELL = "numbers => app.api.dispatchEvent(new CustomEvent('tokencache.tuning', {detail: numbers}))"


def numbers(node: str, workflow: str, **changes: Any) -> dict[str, Any]:
    trials = [(3.1, 38.0, 6, True), (2.7, 40.0, 7, False), (3.0, 39.5, 6, True)]
    names = ("speedup", "likeness", "i_steps", "reaches")
    return {
        "running": True,
        "node": node,
        "workflow": workflow,
        "phase": "searching",
        "goal": {"kind": "speed-up", "value": 3.0},
        "steps": 20,
        "seconds": 4.0,
        "minutes": 5.0,
        "trials": [dict(zip(names, trial)) for trial in trials],
        "best": 2,
        "default": 0,
        "measured": None,
        "measured_default": None,
        **changes,
    }


@needs_chromium
@pytest.mark.server
def test_trials_are_drawn_while_it_runs_and_the_end_has_the_default_beside_the_best(comfy_server: ComfyServer):
    with comfy_page(comfy_server) as comfy:
        names = comfy.page.evaluate(NEW)
        panel = comfy.page.get_by_role("group", name="Tuning", exact=True)
        expect(panel).to_contain_text("Run the workflow")
        comfy.page.evaluate(TELL, numbers(*names))
        expect(panel.get_by_role("status")).to_have_text("3 trials for 3x, 4 s of at most 5 min")
        expect(panel).to_contain_text("best: 3.00x, 39.5 dB, 6 of 20 I-steps")
        expect(panel).to_contain_text("default: 3.10x, 38.0 dB, 6 of 20 I-steps")
        chart = panel.get_by_role("img", name="speed-up against likeness of 3 trials")
        assert (
            chart.locator("circle").evaluate_all(KINDS) == ["best", "default", "misses"]
            and chart.locator("line.goal").count() == 1
        )

        ended = numbers(*names, running=False, measured=[2.9, 39.1], measured_default=[3.0, 37.5], phase="measuring")
        comfy.page.evaluate(TELL, ended)
        expect(panel.get_by_role("status")).to_have_text("3 trials for 3x in 4 s")
        expect(panel).to_contain_text("best: 2.90x, 39.1 dB")
        expect(panel).to_contain_text("default: 3.00x, 37.5 dB")
        expect(panel).to_contain_text("measured on samples that played no part in the choice")
        assert chart.locator("circle").evaluate_all(KINDS) == ["best", "default", "misses", "reaches", "reaches"]
        assert not comfy.errors
