"""`calibrate`: finds where I-steps should lie from a model's own runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..predictor.file import PredictorFileError, save_trained_cache
from ..predictor.trained_cache import TrainedCache
from ..runs.sampled_model import SampledModel
from ..schedules.calibration import SUFFIX, PlaceCalibration, save_calibration
from ..schedules.choices import parse_steps
from ..schedules.schedule import UniformSchedule
from ..settings import DEFAULTS
from ..tuning.calibrate_places import BUDGET, LEAST_STEPS, calibrate_places
from ..tuning.importance import calibrate
from .options import (
    ORDERS,
    CommandError,
    Help,
    add_run_arguments,
    check_writable,
    device_named,
    fingerprint_for,
    number_in,
    predictor_for,
    runs_of,
    sampled_model,
    sigma_schedule_of,
    whole_number,
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="find where I-steps should lie",
        formatter_class=Help,
        description="With --out: sample a model in full once, try places of I-steps and orders of forecasts on the "
        "record of that run and the best of them in cached runs, and write the order and where I-steps should lie, for "
        "every number of them. With --predictor: "
        "measure on full runs how important each time is, and write it to a predictor file, from which I-Step "
        "Scheduler places I-steps at equal percentiles; an existing file keeps its other contents.",
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="a DiT or a text-to-image model (see `info`)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the calibration to write, .json; for models/tokencache, or for `bench --calibration`",
    )
    what.add_argument("--predictor", type=Path, metavar="FILE", help="the predictor file to complete or to write")
    parser.add_argument(
        "--samples",
        type=whole_number(1),
        metavar="N",
        help="samples to learn from (default: 8 in one batch; with --predictor 256)",
    )
    parser.add_argument(
        "--order",
        type=int,
        choices=ORDERS,
        help="of forecasts (default: with --out 1 or 2, whichever is closer; with --predictor the file's own, or 1)",
    )
    places = parser.add_argument_group("with --out")
    places.add_argument(
        "--i-steps",
        metavar="LIST",
        help="numbers of I-steps to try in cached runs, comma-separated (default: a few shares of the steps)",
    )
    places.add_argument(
        "--budget",
        type=number_in(0, 1000),
        default=BUDGET,
        metavar="X",
        help="compute for cached runs, in full runs; 0: simulation only",
    )
    places.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="of classes and noise")
    importance = parser.add_argument_group("with --predictor")
    importance.add_argument("--batch", type=whole_number(1), default=32, metavar="N", help="samples at a time")
    add_run_arguments(parser, least_steps=LEAST_STEPS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def run(args: argparse.Namespace) -> None:
    option, file = ("--predictor", args.predictor) if args.out is None else ("--out", args.out)
    check_writable(option, file)
    if args.out is not None and args.out.suffix != SUFFIX:
        raise CommandError(f"--out {args.out}: a calibration is a {SUFFIX} file; change the file's extension")
    counts = _counts(args)
    model = sampled_model(args.model, device_named(args.device), args.references)
    try:
        if args.out is not None:
            _places(args, model, counts)
        else:
            _importance(args, model)
    except PredictorFileError as error:
        raise CommandError(f"--predictor {error}") from None
    except ValueError as error:
        raise CommandError(str(error)) from None


def _places(args: argparse.Namespace, model: SampledModel, counts: tuple[int, ...]) -> None:
    samples = args.samples or 8
    run = runs_of(args, model, samples)(args.seed)
    record, found = calibrate_places(
        run,
        DEFAULTS,
        orders=() if args.order is None else (args.order,),
        counts=counts,
        budget=args.budget,
        log=lambda line: tqdm.write(line, file=sys.stderr),
    )
    calibration = PlaceCalibration(
        fingerprint=fingerprint_for(model),
        sampler="euler" if run.euler else args.solver,
        cfg=args.cfg,
        taus=record.taus,
        order=found.order,
        places=found.places,
        trials=found.trials,
        notes={
            "model": Path(args.model).name,
            "schedule": f"{args.steps} steps on {sigma_schedule_of(args, args.steps)}",
            "samples": str(samples),
            "seed": str(args.seed),
            "cost": found.cost(),
        },
    )
    save_calibration(calibration, args.out)
    print(calibration.text())
    print(f"wrote {args.out}")


def _importance(args: argparse.Namespace, model: SampledModel) -> None:
    if args.predictor.exists():
        trained = predictor_for(str(args.predictor), model)
    else:
        trained = TrainedCache(
            settings=DEFAULTS if args.order is None else replace(DEFAULTS, order=args.order),
            interval=UniformSchedule().interval,
            fingerprint=fingerprint_for(model),
        )
    samples = args.samples or 256
    batch = min(args.batch, samples)
    start = runs_of(args, model, batch)
    runs = (start(seed) for seed in tqdm(range(-(-samples // batch)), desc="calibrate", unit="run"))
    calibration = calibrate(runs, trained.settings.order)
    notes = {
        **trained.notes,
        "calibrated on": f"{args.steps} steps of {args.solver} on {sigma_schedule_of(args, args.steps)}",
    }
    save_trained_cache(replace(trained, calibration=calibration, notes=notes), args.predictor)
    print(f"calibrated on {calibration.samples} samples; wrote {args.predictor}")


def _counts(args: argparse.Namespace) -> tuple[int, ...]:
    if args.i_steps is None:
        return ()
    try:
        counts = parse_steps(args.i_steps)
    except ValueError as error:
        raise CommandError(f"--i-steps {args.i_steps}: {error}") from None
    if not counts or not all(1 < count < args.steps for count in counts):
        raise CommandError(
            f"--i-steps {args.i_steps}: write numbers of I-steps from 2 to {args.steps - 1}, so that some of the "
            f"{args.steps} steps are P-steps"
        )
    return counts
