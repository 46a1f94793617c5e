"""`make screenshots`: runs the example workflows on ComfyUI's own page and takes the pictures of it that this
repository shows.

These are: one of every node for its help page, web/docs/images/; the quick start for the README,
docs/images/page_*.png; and a thumbnail beside every example workflow. A workflow whose weights are missing is opened
but not run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any

from comfy_browser import BrowserError, ComfyPage, browser_program, comfy_page
from comfy_location import ROOT, ComfyLocationError, comfyui_path
from comfy_server import ComfyServer, ServerError
from screenshot_files import save_screenshot, save_thumbnail, sheet
from screenshot_page import (
    PAGE,
    SETTINGS,
    bring_to_view,
    lacking_files,
    open_alone,
    outputs_of_a_run,
    picture_of,
    picture_of_panel,
    pretend_files,
)

WORKFLOWS = ROOT / "example_workflows"
HELP = ROOT / "web" / "docs" / "images"
DOCS = ROOT / "docs" / "images"
NODES = {  # workflow -> nodes to take pictures of after its run
    "quick_start": ["TokenCacheLoadDiT", "TokenCacheApply", "TokenCacheReport", "TokenCacheCompare"],
    "trained_predictor": ["TokenCacheLoadPredictor", "TokenCacheHeatmap"],
    "train_predictor": ["TokenCacheTrainPredictor", "TokenCachePlotTraining"],
    "compare": ["TokenCacheRedundancy"],
    "calibrate": ["TokenCacheCalibrate"],
    "tune": ["TokenCacheTuning"],
}
ALONE: dict[str, dict[str, Any]] = {  # nodes that need no run, with the values of their widgets
    "TokenCacheIStepScheduler": {},
    "TokenCacheDiTClassLabel": {"label": "panda_face, watermelon"},
    "TokenCacheLoadPreset": {"preset_name": "emoji-3x.json"},
    "TokenCacheSavePredictor": {},
    "TokenCacheLoadOpenSoraPlan": {},
    "TokenCacheLoadOpenSoraPlanVAE": {},
    "TokenCacheOpenSoraPlanPrompt": {"prompt": "A sailing boat crosses a calm bay at sunrise"},
    "TokenCacheEmptyOpenSoraPlanLatent": {},
}
# workflow -> changed values: enough time on a busy machine, and shorter runs for a longer curve
CHANGED = {
    "tune": {"Tune TokenCache": {"minutes": 5.0}},
    "train_predictor": {
        "Train Cache Predictor": {"steps": 12, "minutes": 3.0},
        "Empty pixel latent": {"batch_size": 2},
    },
}
WHOLE = ("quick_start",)  # shown whole in the README
PANELS = {  # workflow -> the node whose panel is its thumbnail; other thumbnails are the pictures that a workflow saves
    "trained_predictor": "TokenCacheHeatmap",
    "train_predictor": "TokenCacheTrainPredictor",
    "compare": "TokenCacheCompare",
    "calibrate_and_tune": "TokenCacheReport",
}
PLAYED = {"step": "12", "picture": "2"}  # settings of the player, from 0 on: a P-step,
PLAYED_BLOCK = "0"  # and a block that computes a part of the tokens
GROUPS = (1, 2)  # the groups in the thumbnail of a workflow that is not run: what to draw, and TokenCache


def main() -> int:
    names = {file.stem for file in WORKFLOWS.glob("*.json")}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "workflows",
        nargs="*",
        default=sorted(names),
        metavar="workflow",
        help="run or open only these: " + ", ".join(sorted(names)),
    )
    chosen = parser.parse_args().workflows
    if unknown := set(chosen) - names:
        parser.error(f"there is no example workflow {', '.join(sorted(unknown))}")
    try:
        browser_program()  # else a missing browser would be noticed only after the server's start
        with tempfile.TemporaryDirectory() as folder, ComfyServer(comfyui_path(), Path(folder)) as server:
            server.post("/settings", SETTINGS)
            screenshots(server, [WORKFLOWS / f"{name}.json" for name in chosen])
    except (BrowserError, ServerError, ComfyLocationError) as error:
        print(f"\nThe screenshots stopped. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the server has been stopped.", file=sys.stderr)
        return 130
    return 0


def screenshots(server: ComfyServer, files: list[Path]) -> None:
    lacking: dict[Path, list[str]] = {}
    with comfy_page(server, size=PAGE, sharpness=2) as comfy:
        for kind, values in ALONE.items():
            open_alone(comfy, kind, values)
            save_screenshot(picture_of(comfy, kind), HELP / f"{kind}.png")
        for file in files:
            open_workflow(comfy, file)
            if names := lacking_files(comfy):
                lacking[file] = names
            else:
                picture_run(comfy, server, file)
    pretend_files(server, [name for names in lacking.values() for name in names])
    with comfy_page(server, size=PAGE, sharpness=2) as comfy:
        for file in lacking:
            open_workflow(comfy, file)
            save_thumbnail(picture_of(comfy, groups=GROUPS), file.with_suffix(".jpg"))


def open_workflow(comfy: ComfyPage, file: Path) -> None:
    comfy.open(json.loads(file.read_text(encoding="utf-8")), CHANGED.get(file.stem, {}))


def picture_run(comfy: ComfyPage, server: ComfyServer, file: Path) -> None:
    """Run the workflow on the page, and take all pictures of it."""
    print(f"Running {file.name} ...", flush=True)
    outputs = outputs_of_a_run(comfy, server)
    for kind in NODES.get(file.stem, []):
        if kind == "TokenCacheHeatmap":
            set_player(comfy)
        save_screenshot(picture_of(comfy, kind), HELP / f"{kind}.png")
    if file.stem in WHOLE:
        save_screenshot(picture_of(comfy), DOCS / f"page_{file.stem}.png")
    save_thumbnail(thumbnail(comfy, server, file, outputs), file.with_suffix(".jpg"))


def set_player(comfy: ComfyPage) -> None:
    bring_to_view(comfy, "TokenCacheHeatmap")
    player = comfy.page.get_by_role("group", name="Token heatmap player")
    for label, value in PLAYED.items():
        player.get_by_label(label, exact=True).fill(value)
    player.get_by_label("block").select_option(PLAYED_BLOCK)


def thumbnail(comfy: ComfyPage, server: ComfyServer, file: Path, outputs: dict[str, Any]) -> Any:
    """A workflow's thumbnail: a panel, or the pictures that it saved, or, if there are none, a part of the graph."""
    if file.stem in PANELS:
        return picture_of_panel(comfy, PANELS[file.stem])
    saved = [
        outputs[str(node["id"])]["images"]
        for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]
        if node["type"] == "SaveImage"
    ]
    if not saved:
        return picture_of(comfy, groups=GROUPS)
    return sheet([[server.get_bytes("/view?" + urllib.parse.urlencode(image)) for image in group] for group in saved])


if __name__ == "__main__":
    sys.exit(main())
