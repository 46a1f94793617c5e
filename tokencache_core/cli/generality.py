"""`experiment generality`: do places of I-steps serve other models, schedules, step counts, solvers and guidance?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..bench.output import write_json
from ..experiments.generality import GeneralityCondition, GeneralityOutcome, conditions, measure, summary, table
from ..sampling.noise_schedule import TRAIN_STEPS
from ..sampling.samplers import SOLVERS
from ..sampling.sigma_schedule import SigmaSchedule
from .options import (
    CommandError,
    Help,
    add_references_argument,
    check_writable,
    device_named,
    sampled_model,
    whole_number,
)

LISTS = {  # option -> default
    "schedules": "ddpm,flow:1,flow:3,flow:6,karras",
    "steps": "8,12,20,28,50",
    "solvers": ",".join(SOLVERS),
    "guidance": "1.5,4,7",
    "shares": "1/2,1/3,1/4",
}


def add_parser(which: argparse._SubParsersAction) -> None:
    parser = which.add_parser(
        "generality",
        formatter_class=Help,
        help="do places of I-steps serve any model, schedule, step count, solver and guidance?",
        description="Default and calibrated places, the best that a search on real runs finds, as many full steps, "
        "and TaylorSeer, condition by condition. All "
        "combinations of the lists are measured, and written after each, so that a call that was stopped goes on "
        "where it was.",
    )
    parser.add_argument(
        "--model", nargs="+", required=True, metavar="FILE", help="DiTs or text-to-image models (see `info`)"
    )
    add_references_argument(parser)
    parser.add_argument(
        "--json",
        type=Path,
        required=True,
        metavar="OUT",
        help="the results; what is there already is not measured again, and is in the table as well",
    )
    parser.add_argument("--page", type=Path, metavar="OUT", help="the table as Markdown")
    parser.add_argument(
        "--schedules", default=LISTS["schedules"], metavar="LIST", help="names of schedules; flow:X is shifted by X"
    )
    parser.add_argument("--steps", default=LISTS["steps"], metavar="LIST", help="denoise steps")
    parser.add_argument("--solvers", default=LISTS["solvers"], metavar="LIST", help=f"out of {', '.join(SOLVERS)}")
    parser.add_argument(
        "--guidance", default=LISTS["guidance"], metavar="LIST", help="scales of classifier-free guidance"
    )
    parser.add_argument("--shares", default=LISTS["shares"], metavar="LIST", help="of the steps that are I-steps")
    parser.add_argument(
        "--samples",
        type=whole_number(1),
        default=4,
        metavar="N",
        help="one batch to calibrate and search on, another to measure",
    )
    parser.add_argument(
        "--tries", type=whole_number(2), default=40, metavar="N", help="cached runs of the search, at most"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def run(args: argparse.Namespace) -> None:
    check_writable("--json", args.json)
    if args.page is not None:
        check_writable("--page", args.page)
    wanted, found = _conditions(args), _known(args.json)
    device = device_named(args.device)
    edited = "" if args.references is None else f", {args.references.name}"
    models = {Path(file).name + edited: sampled_model(file, device, args.references) for file in args.model}
    if len(models) < len(args.model):
        raise CommandError("--model: rows are named after their model's file; rename those that have one name")
    measured = {(each.model, each.condition) for each in found}
    todo = [(name, condition) for condition in wanted for name in models if (name, str(condition)) not in measured]
    for name, condition in tqdm(todo, unit="run", file=sys.stderr):
        try:
            found.append(measure(models[name], name, condition, samples=args.samples, tries=args.tries))
        except ValueError as error:
            raise CommandError(f"{condition}: {error}") from None
        write_json(args.json, [each.as_json() for each in found])
    text = "\n".join([*table(found), "", *summary(found)])
    print(text)
    if args.page is not None:
        args.page.write_text(
            f"# Places of I-steps under other conditions\n\ndB against the full run; {args.samples} samples that "
            f"nothing was chosen on.\n\n{text}\n"
        )


def _conditions(args: argparse.Namespace) -> list[GeneralityCondition]:
    schedules = [_option("--schedules", _schedule, text) for text in args.schedules.split(",")]
    steps = [_option("--steps", _steps, text) for text in args.steps.split(",")]
    solvers = [_option("--solvers", _solver, text) for text in args.solvers.split(",")]
    guidance = [_option("--guidance", _number, text) for text in args.guidance.split(",")]
    shares = [_option("--shares", _share, text) for text in args.shares.split(",")]
    return conditions(schedules, steps, solvers, guidance, shares)


def _option(option: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text.strip())
    except ValueError as error:
        raise CommandError(f"{option} {text}: {error}") from None


def _schedule(text: str) -> SigmaSchedule:
    name, _, shift = text.partition(":")
    return SigmaSchedule(name, _number(shift) if shift else None)


def _steps(text: str) -> int:
    if not text.isdecimal() or not 3 <= int(text) <= TRAIN_STEPS:
        raise ValueError(f"write step counts from 3 to {TRAIN_STEPS}, separated by commas")
    return int(text)


def _solver(text: str) -> str:
    if text not in SOLVERS:
        raise ValueError(f"known are {', '.join(SOLVERS)}")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("write numbers, separated by commas") from None


def _share(text: str) -> float:
    above, _, below = text.partition("/")
    share = _number(above) / (_number(below) if below else 1.0)
    if not 0 < share < 1:
        raise ValueError("write shares between 0 and 1, such as 1/3, separated by commas")
    return share


def _known(file: Path) -> list[GeneralityOutcome]:
    if not file.exists():
        return []
    try:
        return [GeneralityOutcome.from_json(row) for row in json.loads(file.read_text())]
    except (ValueError, TypeError) as error:
        raise CommandError(f"--json {file}: it is not what this command writes ({error}); name another file") from None
