"""Kills a training again and again (SIGKILL, at a random moment) and resumes it: is its saved state ever damaged?

A tiny DiT, trained in a forked process that saves its state at every iteration. After each kill the state must be whole
and no older than before; at the end the training must equal one that was never killed, bit for bit. Not for Windows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from comfy_location import ROOT

sys.path += [str(ROOT), str(ROOT / "tests" / "support")]

from safetensors import safe_open
from safetensors.torch import load_file
from tiny_dit import tiny_dit_file  # pyright: ignore[reportMissingImports]

from tokencache_core.__main__ import main as command
from tokencache_core.cli import train

LONGEST = 180.0  # seconds to wait for a state; on a busy machine the first one takes long
SMALL = ("--steps", "6", "--batch", "1", "--rank", "2", "--last-blocks", "1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="how often (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so many (default: %(default)s)")
    options = parser.parse_args()
    give_up = time.monotonic() + 60 * options.minutes
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        model, out = tiny_dit_file(Path(folder) / "tiny.safetensors"), Path(folder) / "p.safetensors"
        kills, reached, in_writing, corrupt = 0, 0, 0, 0
        while kills < options.kills and time.monotonic() < give_up:
            kills += 1
            child = _started(model, out, 10**6)
            _wait(out.with_suffix(".training"), draw)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            in_writing += bool(list(Path(folder).glob(".p.training.*")))
            try:
                now = iterations_in(out.with_suffix(".training"))
            except Exception as error:
                corrupt += 1
                print(f"kill {kills}: the state is damaged: {error}", file=sys.stderr)
                continue
            if now < reached:
                corrupt += 1
                print(f"kill {kills}: {now} iterations, before it were {reached}", file=sys.stderr)
            reached = now
        _, status = os.waitpid(_started(model, out, reached + 1), 0)
        whole = Path(folder) / "whole.safetensors"
        _, plain_status = os.waitpid(_started(model, whole, reached + 1), 0)
        ours, theirs = load_file(out), load_file(whole)
        equal = status == plain_status == 0 and all(ours[name].equal(theirs[name]) for name in theirs)
        print(
            f"{kills} kills, {in_writing} of them while a state was being written: {corrupt} damaged states; "
            f"{reached} iterations were kept; resumed to the end it {'equals' if equal else 'DIFFERS FROM'} a training "
            "that was never killed"
        )
    return 0 if equal and not corrupt and reached else 1  # where no state was kept, nothing has been shown


def _wait(state: Path, draw: random.Random) -> None:
    """Wait for a random moment: any, some time after a state has been saved, or while one is being written."""
    kind = draw.choice(("any", "saved", "writing"))
    if kind != "any":
        before, give_up = _written(state), time.monotonic() + LONGEST
        while time.monotonic() < give_up:
            if _written(state) != before if kind == "saved" else any(state.parent.glob(f".{state.name}.*")):
                break
            time.sleep(0.0002)
    time.sleep(draw.uniform(0.0, {"any": 1.0, "saved": 0.2, "writing": 0.0}[kind]))


def _written(state: Path) -> int:
    return state.stat().st_mtime_ns if state.exists() else 0


def iterations_in(state: Path) -> int:
    """The number of iterations in a state, after reading all of its tensors; 0 if there is no state yet."""
    if not state.exists():
        return 0
    with safe_open(state, framework="pt") as file:
        assert all(file.get_tensor(key).isfinite().all() for key in file.keys())
        return json.loads(file.metadata()["training"])["iteration"]


def _started(model: Path, out: Path, iterations: int) -> int:
    """Start a process that trains, or continues to, and saves its state at every iteration; returns its id."""
    if child := os.fork():
        return child
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    train.SAVE_EVERY = 0.0
    arguments = ["train", "--model", str(model), "--out", str(out), "--iterations", str(iterations), "--resume", *SMALL]
    os._exit(command(arguments))


if __name__ == "__main__":
    sys.exit(main())
