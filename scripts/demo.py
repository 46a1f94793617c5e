"""`make demo`: runs an example workflow through the queue of a real ComfyUI and shows what TokenCache did.

It samples the reference flow model from one noise without TokenCache, with it, and without it in as many steps as the
cached run computed in full: what the same time buys without a cache. A short run with another seed precedes, so that
the measured ones pay neither for loading nor for first calls.
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
from demo_pictures import load_pictures, mean_psnr, save_grid, save_rows
from torch import Tensor
from workflow_to_api import WorkflowError, read_workflow, to_api

WORKFLOW = ROOT / "example_workflows" / "Without and with, step by step.json"
RESULTS = ROOT / "demo_output"
PLAIN, CACHED, FEWER = "without TokenCache", "with TokenCache", "as many plain steps"  # two are ends of nodes' titles
HEATMAP, STEPS, REPORT = "Cache Heatmap Preview", "Computed per step", "TokenCache Report"
COMPARISON = "comparison.png"
WARM_UP_STEPS = 4
LOADER, NAME = "TokenCacheLoadSmallFlux", "model_name"
NEEDED = ROOT / "reference" / "emoji-flux.safetensors"


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
    workflow = read_workflow(WORKFLOW)
    comfyui = comfyui_path()
    shutil.rmtree(RESULTS, ignore_errors=True)
    print(f"Starting ComfyUI from {comfyui} on the CPU ...", flush=True)
    with ComfyServer(comfyui, RESULTS, port=port) as server:
        object_info = server.get("/object_info")
        prompt = with_steps(to_api(workflow, object_info))
        check_files(prompt, object_info)

        def run(prompt: dict[str, Any], progress: Progress | None = None) -> Shown:
            return Shown(server, run_prompt(server, prompt, progress), prompt)

        print("Warming up ...", flush=True)
        run(warm_up(prompt))
        print(f"Running {os.path.relpath(WORKFLOW)} ...", flush=True)
        both = run(prompt, show_progress(prompt))
        few = fewer_steps(prompt, both.whole_steps())
        print(f"Running it without TokenCache in {both.whole_steps()} steps ...", flush=True)
        collect(both, run(few, show_progress(few)))


class Shown:
    """The outputs of a run of the workflow, by the nodes' titles."""

    def __init__(self, server: ComfyServer, run: Run, prompt: dict[str, Any]) -> None:
        self.server, self.run = server, run
        self.numbers = {node["_meta"]["title"]: number for number, node in prompt.items()}

    def outputs(self, title: str, kind: str) -> list[Any]:
        values = self.run.outputs.get(self.numbers.get(title, ""), {}).get(kind)
        if not values:
            raise DemoError(
                f"The workflow's node '{title}' showed no {kind}: is it still in {WORKFLOW.name}, and not bypassed?"
            )
        return list(values)

    def pictures(self, title: str) -> Tensor:
        return load_pictures(self.server, self.outputs(title, "images"))

    def report(self) -> str:
        return self.outputs(REPORT, "text")[0]

    def whole_steps(self) -> int:
        """The number of steps that the cached run computed in full, from its report."""
        found = re.search(r"\((\d+) I-steps", self.report())
        if found is None:
            raise DemoError(f"The report names no I-steps, so the run was not cached. It says: {self.report()}")
        return int(found[1])

    def seconds(self, way: str) -> float:
        seconds = self.run.seconds.get(self.numbers.get(f"KSampler {way}", ""))
        if seconds is None:
            raise DemoError(f"The node 'KSampler {way}' did not run: is it in {WORKFLOW.name}?")
        return seconds


def check_files(prompt: dict[str, Any], object_info: dict[str, Any]) -> None:
    """DemoError unless the server lists the model that the workflow needs."""
    listed = object_info[LOADER]["input"]["required"][NAME]
    names = listed[1]["options"] if listed[0] == "COMBO" else listed[0]
    for node in prompt.values():
        if node["class_type"] == LOADER and node["inputs"][NAME] not in names:
            raise DemoError(
                f"The node {LOADER} does not list {node['inputs'][NAME]}: restore {os.path.relpath(NEEDED)}, which "
                "this checkout lacks, and run the same command again."
            )


def with_steps(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt with a preview of its heatmap's picture of the steps; on the page the node plays the run instead."""
    heatmaps = [number for number, node in prompt.items() if node["_meta"]["title"] == HEATMAP]
    shown = {
        f"{number} steps": {"class_type": "PreviewImage", "inputs": {"images": [number, 1]}, "_meta": {"title": STEPS}}
        for number in heatmaps
    }
    return {**prompt, **shown}


def fewer_steps(prompt: dict[str, Any], steps: int) -> dict[str, Any]:
    """The part of the prompt that makes the pictures without TokenCache, in `steps` steps."""
    few = {number: node for number, node in copy.deepcopy(prompt).items() if CACHED not in node["_meta"]["title"]}
    while gone := [number for number, node in few.items() if not needed(node) <= few.keys()]:
        few = {number: node for number, node in few.items() if number not in gone}
    for node in few.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = steps
    return few


def needed(node: dict[str, Any]) -> set[str]:
    """The numbers of the nodes that a node is connected to."""
    return {value[0] for value in node["inputs"].values() if isinstance(value, list)}


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


def collect(both: Shown, few: Shown) -> None:
    """Fetch the outputs of the nodes, write the pictures and the report, and print the table."""
    plain, cached, fewer = (
        shown.pictures(f"Pictures {way}") for shown, way in ((both, PLAIN), (both, CACHED), (few, PLAIN))
    )
    seconds = [both.seconds(PLAIN), both.seconds(CACHED), few.seconds(PLAIN)]
    report = both.report()
    shares = ["100.0%", compute_share(report), "-"]
    distance = [None, mean_psnr(plain, cached), mean_psnr(plain, fewer)]
    print(f"\n{report}\n\n{table(seconds, shares, distance)}\n")
    for what, name, grid in (
        (PLAIN, "grid_full.png", plain),
        (CACHED, "grid_tokencache.png", cached),
        (FEWER, "grid_fewer_steps.png", fewer),
        ("computed per step", "steps.png", both.pictures(STEPS)),
    ):
        save_grid(grid, RESULTS / name)
        print(f"{what:<28}{os.path.relpath(RESULTS / name)}")
    rows = labels(len(kinds_of_steps(report)), both.whole_steps(), distance)
    save_rows(list(zip(rows, (plain, cached, fewer))), RESULTS / COMPARISON)
    print(f"{'all three, one below another':<28}{os.path.relpath(RESULTS / COMPARISON)}")
    (RESULTS / "report.txt").write_text(report + "\n", encoding="utf-8")
    print(f"{'the report above':<28}{os.path.relpath(RESULTS / 'report.txt')}")


def kinds_of_steps(report: str) -> str:
    """The kinds of the run's steps, such as IIPP, from the report's text."""
    found = re.search(r"^steps: ([IP]+)", report, re.MULTILINE)
    return found[1] if found else ""


def labels(steps: int, whole: int, distance: list[float | None]) -> list[str]:
    """The labels above the rows of the picture of all three ways, without times."""
    return [
        f"{PLAIN}: {steps} steps",
        f"{CACHED}: {whole} of {steps} steps in full, {distance[1]:.1f} dB against the row above",
        f"{PLAIN} in {whole} steps, which take as long: {distance[2]:.1f} dB against the first row",
    ]


def compute_share(report: str) -> str:
    """The share of block-tokens that were computed, from the report's text."""
    found = re.search(r"^compute: ([\d.]+%)", report, re.MULTILINE)
    return found[1] if found else "?"


def table(seconds: list[float], compute: list[str], distance: list[float | None]) -> str:
    """The table of the three ways; speed-ups are against the first."""
    rows = [("", "sampling", "speed-up", "compute", "PSNR")]
    for way, took, share, psnr in zip((PLAIN, CACHED, FEWER), seconds, compute, distance):
        rows.append(
            (way, f"{took:.2f} s", f"{seconds[0] / took:.2f}x", share, "-" if psnr is None else f"{psnr:.1f} dB")
        )
    return "\n".join(f"{row[0]:<28}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
