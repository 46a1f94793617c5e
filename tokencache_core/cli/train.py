"""`train`: trains the parts that act on the P-steps of a model on its own cached runs, without a data set."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from contextlib import closing
from pathlib import Path

import torch
from tqdm import tqdm

from ..files.whole_file import remove_leftovers
from ..predictor.file import PredictorFileError, save_trained_cache
from ..predictor.trained_cache import TrainedCache, kept
from ..predictor.trained_parts import TrainedParts
from ..training.checkpoint import TrainingStateError, check_space, load_state, save_state
from ..training.distributed import Processes, launched
from ..training.trainer import Training, TrainingDiverged
from .options import (
    CommandError,
    Help,
    add_plan_arguments,
    check_writable,
    device_named,
    fingerprint_for,
    number_in,
    plan_of,
    runs_of,
    sampled_model,
    sigma_schedule_of,
    whole_number,
)

SAVE_EVERY = 60.0  # seconds


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a predictor, which corrects P-steps",
        formatter_class=Help,
        description="Train parts that correct the errors of reuse on P-steps of a model: a learned forecast for the "
        "blocks that reuse everything, and LoRA adapters on the last blocks, which run in full. Ctrl-C keeps what has "
        "been learned; the same command with --resume continues. `accelerate launch --multi_gpu --num_processes N -m "
        "tokencache_core train ...` trains in N processes, each with a --batch of its own, also on CPUs.",
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="a DiT or a text-to-image model (see `info`)")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="the predictor file to write, .safetensors"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes",
        type=number_in(0, 1e6),
        default=15.0,
        metavar="M",
        help="stop after M minutes, to within half an iteration",
    )
    budget.add_argument("--iterations", type=whole_number(1), metavar="N", help="stop after N iterations in all")
    parser.add_argument(
        "--resume", action="store_true", help="continue where an earlier call with the same --out stopped"
    )
    add_plan_arguments(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def run(args: argparse.Namespace) -> None:
    check_writable("--out", args.out)
    if args.out.suffix != ".safetensors":
        raise CommandError(f"--out {args.out}: a predictor is a .safetensors file; change the file's extension")
    state = args.out.with_suffix(".training")
    if state.exists() and not args.resume:
        raise CommandError(
            f"--out {args.out}: {state} holds an unfinished training; add --resume to continue it, or remove it"
        )
    device = device_named(args.device)
    with closing(launched(device)) as processes:
        _train_and_save(args, state, processes.device or device, processes)


def _train_and_save(args: argparse.Namespace, state: Path, device: torch.device, processes: Processes) -> None:
    model = sampled_model(args.model, device, args.references)
    blocks = [block for block, _ in model.blocks]
    try:
        plan = plan_of(args)
        fingerprint = fingerprint_for(model)
        training = Training(plan, model.network, blocks, runs_of(args, model, args.batch, processes), processes)
    except ValueError as error:
        raise CommandError(str(error)) from None
    try:
        if processes.rank == 0:
            remove_leftovers(state)
            check_space(training, state)
        if args.resume and state.exists():
            load_state(training, state)
        _say(processes, f"held-out drift of the plain cache: {training.held_out(TrainedParts()):.4g}")
        _train(training, args, state, processes)
        latent = model.noise_shape(args.batch)
        notes = {
            "steps": args.steps,
            "cfg": args.cfg,
            "solver": args.solver,
            "schedule": sigma_schedule_of(args, args.steps),
            "seed": args.seed,
            "batch": args.batch,
            "latent": latent,
        }

        def save(measured: dict[str, str]) -> None:
            if processes.rank == 0:
                save_trained_cache(
                    TrainedCache(
                        settings=plan.settings,
                        interval=plan.interval,
                        fingerprint=fingerprint,
                        log=tuple(training.log),
                        **kept(training.learned()),
                        notes={name: str(value) for name, value in notes.items()} | measured,
                    ),
                    args.out,
                )

        save({})  # measuring takes a few more runs, and may be interrupted
        outcome = training.finish()
        save(outcome.notes)
    except (TrainingStateError, PredictorFileError) as error:
        raise CommandError(str(error)) from None
    _say(
        processes,
        f"held-out drift with what was learned: {outcome.drift:.4g} ({outcome.drift / outcome.without:.1%}), "
        f"after {training.iteration} iterations; speed-up by the clock {outcome.speedup:.2f}x",
    )
    if training.remark():
        _say(processes, f"note: {training.remark()}")
    _say(processes, f"wrote {args.out}; {state} can be removed unless you mean to --resume")


def _say(processes: Processes, text: str) -> None:
    if processes.rank == 0:
        print(text, flush=True)


def _train(training: Training, args: argparse.Namespace, state: Path, processes: Processes) -> None:
    """Train until the budget is spent, the user presses Ctrl-C, or the training diverges.

    Unless it diverged, or the disk is full, its state is then on disk.
    """
    saved = time.monotonic()
    left = itertools.count() if args.iterations is None else range(training.iteration, args.iterations)
    try:
        with tqdm(
            left,
            desc="train",
            unit="iteration",
            total=args.iterations,
            initial=training.iteration,
            disable=processes.rank > 0,
        ) as bar:
            for _ in bar:
                if args.iterations is None and training.is_over(args.minutes):
                    break
                point = training.step()
                shown = {"drift": f"{point.loss:.3g}"} | (
                    {"held out": f"{point.held_out:.3g}"} if point.held_out else {}
                )
                bar.set_postfix(shown)
                if processes.rank == 0 and time.monotonic() - saved > SAVE_EVERY:
                    _keep(training, state)
                    saved = time.monotonic()
    except KeyboardInterrupt:
        _say(processes, "stopped; keeping what has been learned")
    except TrainingDiverged as error:
        _say(processes, str(error))
        return  # there is no state to resume from
    if processes.rank == 0:
        _keep(training, state)


def _keep(training: Training, state: Path) -> None:
    """Save the state. A full disk is told of, and the training goes on: there may be room again the next time."""
    try:
        save_state(training, state)
    except TrainingStateError as error:
        print(f"note: {error}", file=sys.stderr, flush=True)
