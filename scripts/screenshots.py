"""`make screenshots`: runs the example workflows on ComfyUI's own page and takes the pictures of it that this
repository shows.

These are: one of every node for its help page, web/docs/images/; the quick start for the README,
docs/images/page_*.png; and a thumbnail beside every example workflow. A workflow whose weights are missing is not run:
its thumbnail is a chart of its steps.
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
    sockets_of,
)
from step_chart import step_chart

WORKFLOWS = ROOT / "example_workflows"
HELP = ROOT / "web" / "docs" / "images"
DOCS = ROOT / "docs" / "images"
NODES = {  # workflow -> nodes to take pictures of after its run
    "Quick start, the same pictures faster": [
        "TokenCacheLoadSmallFlux",
        "TokenCacheApply",
        "TokenCacheReport",
        "TokenCacheCompare",
    ],
    "Sample with a trained predictor": ["TokenCacheLoadPredictor", "TokenCacheHeatmap"],
    "Train a predictor for your model": ["TokenCacheTrainPredictor", "TokenCachePlotTraining"],
    "Can caching pay on your model": ["TokenCacheRedundancy"],
    "Closer pictures at the same speed": ["TokenCacheCalibrate"],
    "Settings for 3x or 35 dB": ["TokenCacheTuning"],
}
ALONE: dict[str, dict[str, Any]] = {  # nodes that need no run, with the values of their widgets
    "TokenCacheIStepScheduler": {},
    "TokenCacheLoadDiT": {"dit_name": "emoji-dit.safetensors"},
    "TokenCacheDiTClassLabel": {"label": "panda_face, watermelon"},
    "TokenCacheSmallFluxPrompt": {"text": "google panda face\ntwitter red heart"},
    "TokenCacheLoadPreset": {"preset_name": "emoji-flux-2x.json"},
    "TokenCacheSavePredictor": {},
    "TokenCacheLoadOpenSoraPlan": {"model_name": "open-sora-plan/diffusion_pytorch_model.safetensors"},
    "TokenCacheLoadOpenSoraPlanVAE": {},
    "TokenCacheLoadMT5XXL": {"text_encoder": "mt5-xxl.safetensors"},
    "TokenCacheOpenSoraPlanPrompt": {"prompt": "A sailing boat crosses a calm bay at sunrise"},
    "TokenCacheEmptyOpenSoraPlanLatent": {},
}
# Empty files in the server's output folder, where ComfyUI looks for models too: a node that names a file that is not
# there is marked in red.
EMPTY = ("diffusion_models/open-sora-plan/diffusion_pytorch_model.safetensors", "clip/mt5-xxl.safetensors")
# workflow -> changed values: enough time on a busy machine, and shorter runs for a longer curve
CHANGED = {
    "Settings for 3x or 35 dB": {"Tune TokenCache": {"minutes": 5.0}},
    "Train a predictor for your model": {
        "Train Cache Predictor": {"steps": 12, "minutes": 3.0},
        "Empty pixel latent": {"batch_size": 2},
    },
}
WHOLE = {"Quick start, the same pictures faster": "quick_start"}  # shown whole in the README
PANELS = {  # workflow -> the node whose panel is its thumbnail; other thumbnails are the pictures that a workflow saves
    "Sample with a trained predictor": "TokenCacheHeatmap",
    "Train a predictor for your model": "TokenCacheTrainPredictor",
    "Can caching pay on your model": "TokenCacheRedundancy",
    "Quick start, the same pictures faster": "TokenCacheCompare",
    "Small video, the same clip faster": "TokenCacheCompare",
    "Settings for 3x or 35 dB": "TokenCacheTuning",
    "Closer pictures at the same speed": "TokenCacheCompare",
}
PICTURE = {"Small video, the same clip faster": 3}  # which of a comparison's pictures its thumbnail shows, from 1 on
PLAYED = {"step": "12", "picture": "2"}  # settings of the player, from 0 on: a P-step,
PLAYED_BLOCK = "0"  # and a block that computes a part of the tokens


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
    lacking: list[Path] = []
    for name in EMPTY:
        (server.output / name).parent.mkdir(parents=True, exist_ok=True)
        (server.output / name).touch()
    with comfy_page(server, size=PAGE, sharpness=2) as comfy:
        for kind, values in ALONE.items():
            open_alone(comfy, kind, values)
            save_help(comfy, kind)
        for file in files:
            open_workflow(comfy, file)
            if lacking_files(comfy):
                lacking.append(file)
            else:
                picture_run(comfy, server, file)
    for file in lacking:
        save_thumbnail(step_chart(file, sorted(WORKFLOWS.glob("*.json")).index(file)), file.with_suffix(".jpg"))


def open_workflow(comfy: ComfyPage, file: Path) -> None:
    comfy.open(json.loads(file.read_text(encoding="utf-8")), CHANGED.get(file.stem, {}))


def picture_run(comfy: ComfyPage, server: ComfyServer, file: Path) -> None:
    """Run the workflow on the page, and take all pictures of it."""
    print(f"Running {file.name} ...", flush=True)
    outputs = outputs_of_a_run(comfy, server)
    for kind in NODES.get(file.stem, []):
        if kind == "TokenCacheHeatmap":
            set_player(comfy)
        save_help(comfy, kind)
    if file.stem in WHOLE:
        save_screenshot(picture_of(comfy), DOCS / f"page_{WHOLE[file.stem]}.png")
    save_thumbnail(thumbnail(comfy, server, file, outputs), file.with_suffix(".jpg"))


def save_help(comfy: ComfyPage, kind: str) -> None:
    """The picture of a node for its help page."""
    save_screenshot(picture_of(comfy, kind), HELP / f"{kind}.png", sockets_of(comfy, kind))


def set_player(comfy: ComfyPage) -> None:
    bring_to_view(comfy, "TokenCacheHeatmap")
    player = comfy.page.get_by_role("group", name="Token heatmap player")
    for label, value in PLAYED.items():
        player.get_by_label(label, exact=True).fill(value)
    player.get_by_label("block").select_option(PLAYED_BLOCK)


def thumbnail(comfy: ComfyPage, server: ComfyServer, file: Path, outputs: dict[str, Any]) -> Any:
    """A workflow's thumbnail: a panel, or the pictures that it saved."""
    if file.stem in PANELS:
        for _ in range(1, PICTURE.get(file.stem, 1)):
            comfy.page.get_by_label("which picture").press("ArrowRight")
        return picture_of_panel(comfy, PANELS[file.stem])
    saved = [
        outputs[str(node["id"])]["images"]
        for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]
        if node["type"] == "SaveImage"
    ]
    return sheet([[server.get_bytes("/view?" + urllib.parse.urlencode(image)) for image in group] for group in saved])


if __name__ == "__main__":
    sys.exit(main())
