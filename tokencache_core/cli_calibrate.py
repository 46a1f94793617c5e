"""`calibrate`: when I-steps matter, measured on full runs and kept with a predictor."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from .calibration import calibrate
from .cli_checks import CommandError, Help, check_writable, device_named, model_and_names, predictor_for, whole_number
from .cli_runs import add_run_arguments, runs_of
from .cli_sigmas import sigma_schedule_of
from .fingerprint import fingerprint_of
from .noise_time import noise_time
from .predictor_file import PredictorFileError, save_trained_cache
from .schedule import UniformSchedule
from .settings import CacheSettings
from .trained_cache import TrainedCache


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "calibrate", help="measure when I-steps matter", formatter_class=Help,
        description="Measure on full runs of a DiT how important each time is, and keep it in a predictor file, from which "
        "I-Step Scheduler places I-steps at equal percentiles. An existing file keeps what else it holds.",
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="a DiT as .safetensors or .pt (see `info`)")
    parser.add_argument("--predictor", required=True, type=Path, metavar="FILE", help="the predictor file to complete or to write")
    parser.add_argument("--samples", type=whole_number(1), default=256, metavar="N", help="how many to average")
    parser.add_argument("--batch", type=whole_number(1), default=32, metavar="N", help="samples at a time")
    parser.add_argument("--order", type=int, choices=(0, 1, 2), default=2, help="of the forecast; an existing file has its own")
    add_run_arguments(parser, least_steps=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def run(args: argparse.Namespace) -> None:
    check_writable("--predictor", args.predictor)
    model, names = model_and_names(args.model, device_named(args.device))
    if args.predictor.exists():
        trained = predictor_for(str(args.predictor), model)
    else:
        trained = TrainedCache(
            settings=CacheSettings(order=args.order), interval=UniformSchedule().interval, fingerprint=fingerprint_of("DiT", model.blocks),
        )
    batch = min(args.batch, args.samples)
    try:
        start = runs_of(args, model, names, batch)
        runs = (start(seed) for seed in tqdm(range(-(-args.samples // batch)), desc="calibrate", unit="run"))
        calibration = calibrate(runs, noise_time, trained.settings.order)
        notes = {**trained.notes, "calibrated on": f"{args.steps} steps of {args.solver} on {sigma_schedule_of(args, args.steps)}"}
        save_trained_cache(replace(trained, calibration=calibration, notes=notes), args.predictor)
    except PredictorFileError as error:
        raise CommandError(f"--predictor {error}") from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    print(f"calibrated on {calibration.samples} samples; wrote {args.predictor}")
