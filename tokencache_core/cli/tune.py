"""`tune`: finds the settings that reach a speed-up, or a floor of likeness, on a DiT, and writes them as a preset."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from ..bench.output import describe_device
from ..tuning.preset import SUFFIX, Goal, save_preset
from ..tuning.search_space import space
from ..tuning.tuner import GoalOutOfReach, Tuner
from .options import (
    CommandError,
    Help,
    add_run_arguments,
    check_writable,
    device_named,
    fingerprint_for,
    number_in,
    runs_of,
    sampled_model,
    sigma_schedule_of,
    whole_number,
)

BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "tune",
        help="find the settings for a speed-up or for a floor of likeness",
        formatter_class=Help,
        description="Measure a few short runs, choose I-steps, order, cache ratio, last blocks and context for the "
        "goal, and write a preset with the predicted results and those measured on held-out classes and noise.",
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="a DiT or a text-to-image model (see `info`)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the preset to write, .json")
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument(
        "--speed-up", type=float, metavar="X", help="by the clock; finds the run that is most like the full run"
    )
    goal.add_argument(
        "--psnr", type=float, metavar="DB", help="against the full run; finds the fastest run at least as close"
    )
    goal.add_argument("--ssim", type=float, metavar="S", help="the same for SSIM, for models that sample pictures")
    parser.add_argument(
        "--minutes", type=number_in(0.01, 1e4), default=10.0, metavar="M", help="stop trying after M minutes"
    )
    parser.add_argument("--samples", type=whole_number(2), default=8, metavar="N", help="all in one batch")
    add_run_arguments(parser, least_steps=4)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def run(args: argparse.Namespace) -> None:
    check_writable("--out", args.out)
    if args.out.suffix != SUFFIX:
        raise CommandError(f"--out {args.out}: a preset is a {SUFFIX} file; change the file's extension")
    kind = next(kind for kind in ("speed_up", "psnr", "ssim") if getattr(args, kind) is not None)
    try:
        goal = Goal(kind.replace("_", "-"), getattr(args, kind))
    except ValueError as error:
        raise CommandError(f"--{kind.replace('_', '-')}: {error}") from None
    device = device_named(args.device)
    model = sampled_model(args.model, device, args.references)
    try:
        start = runs_of(args, model, args.samples)
        with tqdm(total=1.0, desc=f"tune, at most {args.minutes:g} min", bar_format=BAR) as bar:
            tuner = Tuner(
                start,
                goal,
                space(len(model.blocks), args.solver == "ddim", model.fading),
                minutes=args.minutes,
                is_pixels=model.is_pixels,
                log=partial(tqdm.write, file=sys.stderr),
                progress=lambda share: bar.update(share - bar.n),
            )
            tuner.tune()
    except GoalOutOfReach as error:
        raise CommandError(f"{error}; nothing was written") from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    notes = {
        "sampler": args.solver,
        "schedule": str(sigma_schedule_of(args, args.steps)),
        "cfg": f"{args.cfg:g}",
        "model": Path(args.model).name,
        "device": describe_device(device),
        "torch": torch.__version__,
    }
    preset = tuner.preset(fingerprint_for(model), notes)
    assert preset is not None  # else tuning would have said why
    save_preset(preset, args.out)
    print(preset.text())
    print(f"wrote {args.out}")
