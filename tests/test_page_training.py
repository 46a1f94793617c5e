"""Training from ComfyUI's page: the chart appears while it runs, cancelling keeps the work, and the file serves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from comfy_page import comfy_page, needs_chromium
from comfy_server import ComfyServer
from tiny_dit import tiny_dit_file

from tokencache_core.predictor_file import read_trained_cache

WORKFLOW = Path(__file__).resolve().parent.parent / "example_workflows" / "train_predictor.json"
CHART = """() => {
    const node = app.graph.nodes.find(node => node.title === 'Train Cache Predictor')
    return node.imgs?.length > 0 && node.imgs[0].naturalWidth > 0
}"""


def wait_for(what: Callable[[], object], server: ComfyServer, seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up, f"nothing happened; the server said:\n{server.log_tail()}"
        time.sleep(0.2)


@needs_chromium
@pytest.mark.server
def test_cancelling_from_the_page_keeps_what_was_learned(comfy_server: ComfyServer, predictor_file: Path):
    folder = comfy_server.output / "diffusion_models"   # ComfyUI looks for models there too
    folder.mkdir(exist_ok=True)
    tiny_dit_file(folder / "paged.safetensors", in_channels=3, input_size=32, num_classes=9)
    values = {
        "Load DiT": {"dit_name": "paged.safetensors"},
        "Classes of the training runs": {"label": "0, 1, 2, 3"},
        "Classes of the pictures": {"label": "4, 5, 6, 7"},
        "Train Cache Predictor": {"minutes": 100.0, "steps": 8, "save_as": predictor_file.stem},
    }
    with comfy_page(comfy_server) as page:
        page.open(json.loads(WORKFLOW.read_text(encoding="utf-8")), values)
        page.run()
        page.page.wait_for_function(CHART, timeout=60_000)
        assert not predictor_file.exists()
        page.cancel()
        wait_for(predictor_file.exists, comfy_server)
        assert not page.errors
    trained = read_trained_cache(predictor_file)
    assert trained.log and trained.forecasts
    wait_for(lambda: not comfy_server.get("/queue")["queue_running"], comfy_server)
    newest = max(comfy_server.get("/history").values(), key=lambda run: run["prompt"][0])
    assert newest["status"]["status_str"] == "error" and "execution_interrupted" in [name for name, _ in newest["status"]["messages"]]
