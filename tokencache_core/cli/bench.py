"""`bench`: quality and time of the cache against other uses of the same time; with `--shape`, a P-step's overhead."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ..bench.benchmark import run_bench
from ..bench.exact import sentence
from ..bench.frontier import draw_frontier
from ..bench.methods import METHODS, TRAINED_METHODS
from ..bench.output import document, table, write_json
from ..bench.page import page
from ..bench.rows import Row
from ..bench.shape import DTYPES, measure_shape, parse_shape, runs_per_shape
from ..bench.workload import Protocol, workload_of
from ..runs.sampled_model import SampledModel
from ..sampling.noise_schedule import TRAIN_STEPS
from ..sampling.samplers import SOLVERS
from ..schedules.calibration import PlaceCalibration, load_calibration
from ..tuning.preset import Preset, load_preset
from .bench_fid import add_fid_arguments, fid_asked, run_fid
from .bench_others import ALL, host_shapes, peers_asked, with_host
from .options import (
    CommandError,
    Help,
    add_references_argument,
    add_sigma_arguments,
    check_writable,
    device_named,
    fingerprint_for,
    number_in,
    predictor_for,
    sampled_model,
    sigma_schedule_of,
    whole_number,
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    default = Protocol()
    parser = subparsers.add_parser(
        "bench",
        help="measure quality and time against fewer steps, plain reuse, forecasts and random tokens",
        description="With --model: sample the same noise with every method at several speeds, in turn, and print the "
        "seconds, the speed-up and the PSNR against the full run. With --shape: time single steps at the shape of a "
        "published DiT, with random weights.",
        epilog=f"methods: {', '.join(METHODS)}",
        formatter_class=Help,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="FILE", help="a DiT or a text-to-image model (see `info`)")
    what.add_argument(
        "--shape",
        metavar="SHAPE",
        help="DiT-<S|B|L|XL>/<2|4|8>-<pixels>, such as DiT-XL/2-256, or a few blocks of Flux-512, Wan-1.3B-480, "
        "Open-Sora-Plan-256, Open-Sora-Plan-1.3-256 or PixArt-512 in ComfyUI",
    )
    what.add_argument(
        "--read",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="measure nothing, but write --page from the JSON of earlier calls",
    )
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="write the results there, and the frontier as a .png beside it"
    )
    parser.add_argument(
        "--page",
        type=Path,
        metavar="OUT",
        help="with --read: write the results there as Markdown, and its pictures to images/ beside it",
    )
    parser.add_argument(
        "--repeats", type=whole_number(1), default=default.repeats, metavar="N", help="runs of every setting"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")

    model = parser.add_argument_group("with --model")
    model.add_argument("--methods", metavar="LIST", help="comma-separated; `full` is always measured (default: all)")
    model.add_argument("--predictor", metavar="FILE", help=f"trained for this model; adds {', '.join(TRAINED_METHODS)}")
    model.add_argument("--preset", metavar="FILE", nargs="+", default=[], help="from `tune`; adds the method tuned")
    model.add_argument(
        "--calibration",
        metavar="FILE",
        nargs="+",
        default=[],
        help="from `calibrate --out`; adds the method calibrated",
    )
    model.add_argument(
        "--peers",
        nargs="?",
        const=ALL,
        metavar="LIST",
        help="also measure others' methods: all, or those named, comma-separated; needs a checkout of the repository",
    )
    model.add_argument(
        "--steps",
        type=whole_number(2, TRAIN_STEPS),
        default=default.steps,
        metavar="N",
        help="denoise steps of the full run",
    )
    model.add_argument(
        "--samples", type=whole_number(1), default=default.samples, metavar="N", help="samples, all in one batch"
    )
    model.add_argument(
        "--seed", type=whole_number(0), default=default.seed, metavar="N", help="sample i has the noise of seed N + i"
    )
    model.add_argument(
        "--solver", choices=SOLVERS, default=default.solver, help="sampler of the full and the cached runs"
    )
    add_sigma_arguments(model)
    add_references_argument(model)
    model.add_argument(
        "--cfg", type=number_in(0, 100), default=default.cfg, metavar="SCALE", help="classifier-free guidance; 1: none"
    )
    model.add_argument(
        "--speedups",
        default=",".join(f"{value:g}" for value in default.speedups),
        metavar="LIST",
        help="the speed-ups that every method's sweep aims at",
    )
    model.add_argument(
        "--compared",
        default=",".join(f"{value:g}" for value in default.compared),
        metavar="LIST",
        help="the speed-ups at which methods are compared",
    )

    add_fid_arguments(parser)

    shape = parser.add_argument_group("with --shape")
    shape.add_argument(
        "--batch", default="2", metavar="LIST", help="rows per step, comma-separated; 2: one image under guidance"
    )
    shape.add_argument("--dtype", default="fp32,bf16", metavar="LIST", help="of fp32, bf16, comma-separated")


def run(args: argparse.Namespace) -> None:
    if (args.page is None) != (args.read is None):
        raise CommandError("--page is written from the JSON of earlier calls: give it together with --read")
    if args.read is not None:
        _write_page(args.page, args.read)
        return
    if fid_asked(args):
        run_fid(args)
        return
    if args.json is not None:
        check_writable("--json", args.json)
        if args.model is not None:
            _check_picture(args.json)
    device = device_named(args.device)
    if args.shape is not None:
        _run_shape(args, device)
    else:
        _run_model(args, device)


def _run_model(args: argparse.Namespace, device: torch.device) -> None:
    methods = _methods(args.methods, args.solver, args.predictor is not None)
    schedule = sigma_schedule_of(args, args.steps)
    protocol = Protocol(
        steps=args.steps,
        samples=args.samples,
        seed=args.seed,
        solver=args.solver,
        cfg=args.cfg,
        repeats=args.repeats,
        speedups=_speedups("--speedups", args.speedups),
        compared=_speedups("--compared", args.compared),
        schedule=schedule,
    )
    model = sampled_model(args.model, device, args.references)
    try:
        workload = workload_of(model, protocol)
    except ValueError as error:
        raise CommandError(f"--schedule {schedule.name}: {error}") from None
    trained = None if args.predictor is None else predictor_for(args.predictor, model)
    presets = tuple(_preset_for(file, model) for file in args.preset)
    places = tuple(_calibration_for(file, model) for file in args.calibration)
    unasked = ({}, lambda workload, full_step: [])
    sources, peers = unasked if args.peers is None else peers_asked(args.peers, workload)
    methods, host_solvers = with_host(methods, device, asked=args.methods)
    result = run_bench(workload, Path(args.model).name, methods, trained, presets, peers, places, host_solvers)
    if args.json is not None:
        result.content["protocol"] |= {"command": _own_command(), "peers": sources}
        write_json(args.json, result.content)
        title = f"{Path(args.model).name}, {args.steps} steps of {args.solver} on {schedule}"
        draw_frontier(args.json.with_suffix(".png"), result.rows, title)
    print(table(result.rows))
    for duel in result.duels:
        print(duel.text())
    if known := sentence(result.rows, protocol.compared):
        print(known)


def _speedups(option: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(value) for value in text.split(","))
    except ValueError:
        found = ()
    if not found or not min(found) >= 1:
        raise CommandError(f"{option} {text}: write numbers of 1 or more, separated by commas")
    return found


def _preset_for(file: str, model: SampledModel) -> Preset:
    try:
        preset = load_preset(file)
        if preset.fingerprint.compare(fingerprint_for(model), "preset tuned") == "other weights":
            print(f"warning: {file} was tuned on other weights of this architecture", file=sys.stderr)
    except ValueError as error:
        raise CommandError(f"--preset {file}: {error}") from None
    return preset


def _calibration_for(file: str, model: SampledModel) -> PlaceCalibration:
    try:
        calibration = load_calibration(file)
        if calibration.fingerprint.compare(fingerprint_for(model), "calibration measured") == "other weights":
            print(f"warning: {file} was measured on other weights of this architecture", file=sys.stderr)
    except ValueError as error:
        raise CommandError(f"--calibration {file}: {error}") from None
    return calibration


def _write_page(file: Path, sources: Sequence[Path]) -> None:
    check_writable("--page", file)
    if len({source.stem for source in sources}) < len(sources):
        raise CommandError("--read: each file's pictures are named after it; rename files with the same name")
    documents, pictures = [], []
    for source in sources:
        try:
            documents.append(json.loads(source.read_text()))
            rows = [Row.from_json(row) for row in documents[-1]["rows"]]
            title = (
                f"{documents[-1]['model']['file']}, {documents[-1]['protocol']['steps']} steps on "
                f"{documents[-1]['protocol']['schedule']}"
                if rows
                else ""
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CommandError(f"--read {source}: it was not written by `bench --json` ({error})") from None
        picture = file.parent / "images" / f"{file.stem}-{source.stem}.png"
        pictures.append(f"images/{picture.name}" if rows else None)
        if rows:
            picture.parent.mkdir(exist_ok=True)
            draw_frontier(picture, rows, title)
    file.write_text(page(documents, _own_command(), pictures))
    print(f"wrote {file}")


def _own_command() -> str:
    return " ".join(["python -m tokencache_core", *map(shlex.quote, sys.argv[1:])])


def _methods(text: str | None, solver: str, has_predictor: bool) -> list[str]:
    known = [*METHODS, *(TRAINED_METHODS if has_predictor else ())]
    if text is None:  # with the solver dpmpp_2m, its sweep over fewer steps is the plain one
        return [name for name in known if name != f"fewer-steps-{solver}"]
    names = [name.strip() for name in text.split(",") if name.strip()]
    missing = [name for name in names if name in TRAINED_METHODS and not has_predictor]
    if missing:
        raise CommandError(f"--methods {text}: '{missing[0]}' needs a trained predictor; add --predictor FILE")
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"unknown method '{unknown[0]}'" if unknown else "no method"
        raise CommandError(f"--methods {text}: {what}; known are {', '.join(known)}")
    return list(dict.fromkeys(names))


def _check_picture(json_file: Path) -> None:
    picture = json_file.with_suffix(".png")
    if picture == json_file:
        raise CommandError(f"--json {json_file}: the frontier's picture would overwrite it; give a .json file")
    check_writable("--json", picture)
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandError(
            "--json draws the frontier with matplotlib, which is missing: pip install matplotlib, or omit --json"
        )


def _run_shape(args: argparse.Namespace, device: torch.device) -> None:
    shapes = host_shapes()
    host = shapes if shapes is not None and args.shape in shapes.SHAPES else None
    if host is None:
        try:
            parse_shape(args.shape)
        except ValueError as error:
            more = "" if shapes is None else f"; or {', '.join(shapes.SHAPES)}, in the host"
            raise CommandError(f"--shape: {error}{more}") from None
    dtypes = args.dtype.split(",")
    if not set(dtypes) <= DTYPES.keys():
        raise CommandError(f"--dtype {args.dtype}: choose from {', '.join(DTYPES)}")
    batches = args.batch.split(",")
    if not all(batch.isdecimal() and (int(batch) == 1 or int(batch) in range(2, 1025, 2)) for batch in batches):
        raise CommandError(
            f"--batch {args.batch}: write 1, or even numbers up to 1024 (two rows per image), separated by commas"
        )
    rows = []
    runs = len(dtypes) * (
        len(batches) * runs_per_shape(args.repeats) if host is None else host.runs_per_shape(args.repeats)
    )
    with tqdm(total=runs, unit="run") as bar:
        for dtype in dtypes:
            if host is not None:
                rows += host.measure(
                    args.shape,
                    dtype=dtype,
                    torch_dtype=DTYPES[dtype],
                    repeats=args.repeats,
                    device=device,
                    on_run=bar.update,
                )
                continue
            for batch in map(int, batches):
                bar.set_postfix_str(f"{dtype} batch {batch}")
                rows += measure_shape(
                    args.shape, dtype=dtype, batch=batch, repeats=args.repeats, device=device, on_run=bar.update
                )
    if args.json is not None:
        content = document(
            device=device,
            model={"shape": args.shape, "weights": "random"},
            protocol={
                "repeats": args.repeats,
                "command": _own_command(),
                "overhead": "P-step seconds / (its share of the block-tokens x I-step seconds)",
            },
            shape_rows=[row.as_json() for row in rows],
        )
        write_json(args.json, content)
    for row in rows:
        print(row.text())
