"""`make demo`: runs two example workflows through the queue of a real ComfyUI and shows what TokenCache did.

The first samples the reference DiT twice from the same noise, without and with TokenCache; the second samples it once
more, with the shipped Cache Predictor. A short run with another seed precedes each, so that the measured one pays
neither for loading nor for first calls.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import shutil
import sys
from typing import Any

from comfy_client import Progress, Run, RunError, run_prompt
from comfy_location import ROOT, ComfyLocationError, comfyui_path
from comfy_server import ComfyServer, ServerError
from demo_pictures import load_pictures, mean_psnr, save_grid
from torch import Tensor
from workflow_to_api import WorkflowError, read_workflow, to_api

WORKFLOWS = (
    ROOT / "example_workflows" / "plain_and_cached.json",
    ROOT / "example_workflows" / "trained_predictor.json",
)
RESULTS = ROOT / "demo_output"
WAYS = ("without TokenCache", "with TokenCache", "with the trained predictor")  # the ends of the nodes' titles
HEATMAP, TOKENS, STEPS, REPORT = "Cache Heatmap Preview", "Tokens computed", "Computed per step", "TokenCache Report"
WARM_UP_STEPS = 4
NEEDED = {  # (node, input): the file of this checkout that the input must list
    ("TokenCacheLoadDiT", "dit_name"): ROOT / "reference" / "emoji-dit.safetensors",
    ("TokenCacheLoadPredictor", "predictor_name"): ROOT / "reference" / "emoji-predictor.safetensors",
}


class DemoError(RuntimeError):
    """The demo cannot continue; the message says what to do."""


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
    workflows = [read_workflow(file) for file in WORKFLOWS]
    comfyui = comfyui_path()
    shutil.rmtree(RESULTS, ignore_errors=True)
    print(f"Starting ComfyUI from {comfyui} on the CPU ...", flush=True)
    with ComfyServer(comfyui, RESULTS, port=port) as server:
        object_info = server.get("/object_info")
        prompts = [with_tokens(to_api(workflow, object_info)) for workflow in workflows]
        for prompt in prompts:
            check_files(prompt, object_info)
        shown: list[Shown] = []
        for file, prompt in zip(WORKFLOWS, prompts):
            print("Warming up ...", flush=True)
            run_prompt(server, warm_up(prompt))
            print(f"Running {os.path.relpath(file)} ...", flush=True)
            shown.append(Shown(server, file.name, run_prompt(server, prompt, show_progress(prompt)), prompt))
        collect(*shown)


class Shown:
    """The outputs of a workflow's run, by the nodes' titles."""

    def __init__(self, server: ComfyServer, workflow: str, run: Run, prompt: dict[str, Any]) -> None:
        self.server, self.workflow, self.run = server, workflow, run
        self.numbers = {node["_meta"]["title"]: number for number, node in prompt.items()}

    def outputs(self, title: str, kind: str) -> list[Any]:
        values = self.run.outputs.get(self.numbers.get(title, ""), {}).get(kind)
        if not values:
            raise DemoError(
                f"The workflow's node '{title}' showed no {kind}: is it still in {self.workflow}, and not bypassed?"
            )
        return list(values)

    def pictures(self, title: str) -> Tensor:
        return load_pictures(self.server, self.outputs(title, "images"))

    def report(self) -> str:
        return self.outputs(REPORT, "text")[0]

    def seconds(self, way: str) -> float:
        seconds = self.run.seconds.get(self.numbers.get(f"KSampler {way}", ""))
        if seconds is None:
            raise DemoError(f"The node 'KSampler {way}' did not run: is it in {self.workflow}?")
        return seconds


def check_files(prompt: dict[str, Any], object_info: dict[str, Any]) -> None:
    """DemoError unless the server lists the files that the workflow needs."""
    for node in prompt.values():
        for (loader, name), file in NEEDED.items():
            if node["class_type"] != loader:
                continue
            listed = object_info[loader]["input"]["required"][name]
            if node["inputs"][name] not in (listed[1]["options"] if listed[0] == "COMBO" else listed[0]):
                raise DemoError(
                    f"The node {loader} does not list {node['inputs'][name]}: restore {os.path.relpath(file)}, which "
                    "this checkout lacks, and run the same command again."
                )


def with_tokens(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt with previews of its heatmap's pictures; on the page the node plays the run instead."""
    heatmaps = [number for number, node in prompt.items() if node["_meta"]["title"] == HEATMAP]
    shown = {
        f"{number} {title}": {
            "class_type": "PreviewImage",
            "inputs": {"images": [number, output]},
            "_meta": {"title": title},
        }
        for number in heatmaps
        for output, title in enumerate((TOKENS, STEPS))
    }
    return {**prompt, **shown}


def warm_up(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt with few steps and other seeds, so that the host's own cache has no samples of the real one."""
    short = copy.deepcopy(prompt)
    for node in short.values():
        if node["class_type"] == "KSampler":
            node["inputs"].update(seed=node["inputs"]["seed"] + 1, steps=WARM_UP_STEPS)
    return short


def show_progress(prompt: dict[str, Any]) -> Progress:
    """A progress function: on a terminal, one line that counts a sampler's steps; elsewhere a line when it is done."""

    def show(node: str, done: int, total: int) -> None:
        title = prompt[node]["_meta"]["title"]
        if done == total:
            print(f"\r  {title}: {total} steps", flush=True)
        elif sys.stdout.isatty():
            print(f"\r  {title}: {done}/{total}", end="", flush=True)

    return show


def collect(quick: Shown, trained: Shown) -> None:
    """Fetch the outputs of the nodes, write the pictures and the reports, and print the table."""
    pictures = [shown.pictures(f"Pictures {way}") for shown, way in zip((quick, quick, trained), WAYS)]
    seconds = [shown.seconds(way) for shown, way in zip((quick, quick, trained), WAYS)]
    compute = ["100.0%", *[compute_share(shown.report()) for shown in (quick, trained)]]
    distance = [None, *[mean_psnr(pictures[0], other) for other in pictures[1:]]]
    grids = {
        WAYS[0]: ("grid_full.png", pictures[0]),
        WAYS[1]: ("grid_tokencache.png", pictures[1]),
        WAYS[2]: ("grid_predictor.png", pictures[2]),
        "computed per step, block": ("steps.png", quick.pictures(STEPS)),
        "tokens the predictor chose": ("heatmap.png", trained.pictures(TOKENS)),
    }
    reports = "\n\n".join(f"{way}\n{shown.report()}" for shown, way in zip((quick, trained), WAYS[1:]))
    print(f"\n{reports}\n\n{table(seconds, compute, distance)}\n")
    for what, (name, grid) in grids.items():
        save_grid(grid, RESULTS / name)
        print(f"{what:<28}{os.path.relpath(RESULTS / name)}")
    (RESULTS / "report.txt").write_text(reports + "\n", encoding="utf-8")
    print(f"{'the reports above':<28}{os.path.relpath(RESULTS / 'report.txt')}")


def compute_share(report: str) -> str:
    """The share of block-tokens that were computed, from the report's text."""
    found = re.search(r"^compute: ([\d.]+%)", report, re.MULTILINE)
    return found[1] if found else "?"


def table(seconds: list[float], compute: list[str], distance: list[float | None]) -> str:
    """The table with one row for each of WAYS; speed-ups are against the first."""
    rows = [("", "sampling", "speed-up", "compute", "PSNR")]
    for way, took, share, psnr in zip(WAYS, seconds, compute, distance):
        rows.append(
            (way, f"{took:.2f} s", f"{seconds[0] / took:.2f}x", share, "-" if psnr is None else f"{psnr:.1f} dB")
        )
    return "\n".join(f"{row[0]:<28}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
