"""`make demo`: runs the example workflow through the queue of a real ComfyUI and shows what TokenCache did.

The workflow samples the reference DiT twice from the same noise, without and with TokenCache. A short run with
another seed goes first, so that the measured one pays neither for loading nor for first-call costs.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from comfy_client import Progress, Run, RunError, run_prompt
from comfy_location import ROOT, ComfyLocationError, comfyui_path
from comfy_server import ComfyServer, ServerError
from demo_pictures import load_pictures, mean_psnr, save_grid
from workflow_to_api import WorkflowError, read_workflow, to_api

WORKFLOW = ROOT / "example_workflows" / "quick_start.json"
RESULTS = ROOT / "demo_output"
MODEL = ROOT / "reference" / "emoji-dit.safetensors"
SAMPLERS = ("KSampler without TokenCache", "KSampler with TokenCache")  # the nodes' titles in the workflow
PICTURES = ("Pictures without TokenCache", "Pictures with TokenCache")
HEATMAP, STEPS, REPORT = "Cache Heatmap Preview", "Computed per step and block", "Report"
WARM_UP_STEPS = 4


class DemoError(RuntimeError):
    """The demo cannot go on; the message says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="the server's port (default: any free one)")
    options = parser.parse_args()
    try:
        demo(options.port)
    except (DemoError, RunError, ServerError, WorkflowError, ComfyLocationError) as error:
        print(f"\nThe demo stopped. {error}", file=sys.stderr)
        if (RESULTS / "server.log").is_file():
            print(f"ComfyUI's whole log: {RESULTS / 'server.log'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the server has been stopped.", file=sys.stderr)
        return 130
    return 0


def demo(port: int) -> None:
    workflow = read_workflow(WORKFLOW)
    comfyui = comfyui_path()
    shutil.rmtree(RESULTS, ignore_errors=True)
    print(f"Starting ComfyUI from {comfyui} on the CPU ...", flush=True)
    with ComfyServer(comfyui, RESULTS, port=port) as server:
        object_info = server.get("/object_info")
        prompt = to_api(workflow, object_info)
        check_model(prompt, object_info)
        titles = {node["_meta"]["title"]: node_id for node_id, node in prompt.items()}
        print("Warming up ...", flush=True)
        run_prompt(server, warm_up(prompt))
        print(f"Running {os.path.relpath(WORKFLOW)} ...", flush=True)
        run = run_prompt(server, prompt, show_progress(prompt))
        collect(server, run, titles)


def check_model(prompt: dict[str, Any], object_info: dict[str, Any]) -> None:
    """The DiT that the workflow names must be one that the server lists."""
    listed = object_info["TokenCacheLoadDiT"]["input"]["required"]["dit_name"]
    names = listed[1]["options"] if listed[0] == "COMBO" else listed[0]
    for node in prompt.values():
        if node["class_type"] == "TokenCacheLoadDiT" and node["inputs"]["dit_name"] not in names:
            restore = f"restore {os.path.relpath(MODEL)}, which this checkout lacks, and run the same command again"
            remedy = "run `make setup`, which links it" if MODEL.is_file() else restore
            raise DemoError(f"ComfyUI has no model {node['inputs']['dit_name']} in models/diffusion_models: {remedy}.")


def warm_up(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt with few steps and other seeds: the real one then finds nothing sampled in the host's own cache."""
    short = copy.deepcopy(prompt)
    for node in short.values():
        if node["class_type"] == "KSampler":
            node["inputs"].update(seed=node["inputs"]["seed"] + 1, steps=WARM_UP_STEPS)
    return short


def show_progress(prompt: dict[str, Any]) -> Progress:
    """On a terminal, one line that counts a sampler's steps; elsewhere a line when it is done."""
    def show(node: str, done: int, total: int) -> None:
        title = prompt[node]["_meta"]["title"]
        if done == total:
            print(f"\r  {title}: {total} steps", flush=True)
        elif sys.stdout.isatty():
            print(f"\r  {title}: {done}/{total}", end="", flush=True)
    return show


def collect(server: ComfyServer, run: Run, titles: dict[str, str]) -> None:
    """Fetches what the nodes put out, writes the pictures and the report, prints the table."""
    def shown(title: str, kind: str) -> list[Any]:
        values = run.outputs.get(titles.get(title, ""), {}).get(kind)
        if not values:
            raise DemoError(
                f"The workflow's node '{title}' showed no {kind}: is it still in {WORKFLOW.name}, and not bypassed?"
            )
        return list(values)

    seconds = [run.seconds.get(titles.get(title, "")) for title in SAMPLERS]
    if None in seconds:
        raise DemoError(f"The nodes '{SAMPLERS[0]}' and '{SAMPLERS[1]}' did not both run: are they in {WORKFLOW.name}?")
    full, cached = (load_pictures(server, shown(title, "images")) for title in PICTURES)
    report = shown(REPORT, "text")[0]
    grids = {
        "without TokenCache": ("grid_full.png", full),
        "with TokenCache": ("grid_tokencache.png", cached),
        "computed per token": ("heatmap.png", load_pictures(server, shown(HEATMAP, "images"))),
        "computed per step, block": ("steps.png", load_pictures(server, shown(STEPS, "images"))),
    }
    print(f"\n{report}\n\n{table(*seconds, compute_share(report), mean_psnr(full, cached))}\n")
    for what, (name, pictures) in grids.items():
        save_grid(pictures, RESULTS / name)
        print(f"{what:<26}{os.path.relpath(RESULTS / name)}")
    (RESULTS / "report.txt").write_text(report + "\n", encoding="utf-8")
    print(f"{'the report above':<26}{os.path.relpath(RESULTS / 'report.txt')}")


def compute_share(report: str) -> str:
    """The share of the block-tokens that was computed, as the report's text says it."""
    found = re.search(r"^compute: ([\d.]+%)", report, re.MULTILINE)
    return found[1] if found else "?"


def table(full: float, cached: float, compute: str, psnr: float) -> str:
    rows = [
        ("", "sampling", "speed-up", "compute", "PSNR"),
        ("without TokenCache", f"{full:.2f} s", "1.00x", "100.0%", "-"),
        ("with TokenCache", f"{cached:.2f} s", f"{full / cached:.2f}x", compute, f"{psnr:.1f} dB"),
    ]
    return "\n".join(f"{row[0]:<20}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
