"""`experiment`: the paper's questions, each answered for a model by one command (docs/experiments.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..bench.shape import parse_shape, random_dit
from ..dit.model import DiT
from ..dit.quantised import VARIANTS, compressed
from ..dit.sampled import SampledDiT
from ..experiments import context as context_table
from ..experiments import outputs as outputs_table
from ..experiments import quantisation as quantisation_table
from ..experiments import robustness, settings_sweep, training_sweep
from ..experiments.robustness import CONDITIONS, compare
from ..predictor.trained_parts import TrainedParts
from ..redundancy.chart import draw_redundancy_chart
from ..redundancy.measure import measure_redundancy
from ..runs.run import HELD_OUT_SEEDS, Run
from ..runs.sampled_model import SampledModel, kept_apart
from ..settings import DEFAULTS, SHARES, CacheSettings
from . import generality as cli_generality
from .options import (
    CommandError,
    Help,
    add_plan_arguments,
    add_run_arguments,
    add_sigma_arguments,
    check_writable,
    device_named,
    model_and_names,
    number_in,
    plan_of,
    predictor_for,
    runs_of,
    sampled_model,
    sigma_schedule_of,
    whole_number,
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("experiment", help="answer the paper's questions for a model", formatter_class=Help)
    which = parser.add_subparsers(dest="experiment", metavar="EXPERIMENT", required=True)

    redundancy = which.add_parser(
        "redundancy",
        formatter_class=Help,
        help="how alike are the updates of consecutive steps?",
        description="Sample in full, and compare every block's update of every token with that of the previous step.",
    )
    redundancy.add_argument("--out", type=Path, required=True, metavar="PNG", help="the picture to draw")
    redundancy.add_argument("--samples", type=whole_number(1), default=8, metavar="N", help="all in one batch")
    add_run_arguments(redundancy, least_steps=2)

    conditions = which.add_parser(
        "robustness",
        formatter_class=Help,
        help="does a setting serve other steps, solvers, guidance, sizes?",
        description="The benchmark's setting, or a predictor's, under other conditions, compared with as many full "
        "steps.",
    )
    conditions.add_argument(
        "--i-step-share", type=number_in(0, 1), default=1 / 3, metavar="S", help="of the steps that are I-steps"
    )

    settings = which.add_parser(
        "settings",
        formatter_class=Help,
        help="what does one setting achieve, value by value?",
        description="One setting of the cache at several values, each compared with the same time spent on more "
        "I-steps.",
    )
    settings.add_argument(
        "--vary",
        type=_setting_and_values,
        default="cache-ratio=0.6,0.7,0.8,0.9,1",
        metavar="NAME=V,V...",
        help="such as last-blocks=0,1,2",
    )
    settings.add_argument("--i-steps", type=whole_number(2), default=12, metavar="N", help="of the steps")
    settings.add_argument("--predictor", metavar="FILE", help="trained for this model")
    settings.add_argument("--samples", type=whole_number(1), default=6, metavar="N", help="all in one batch")
    add_run_arguments(settings, least_steps=3)
    settings.add_argument("--shares", choices=SHARES, default="uniform", help="where in depth tokens are computed")

    context = which.add_parser(
        "context",
        formatter_class=Help,
        help="what should computed tokens attend to?",
        description="Tokens in every block, attending to each of the contexts: likeness to the full run, a P-step's "
        "time, the cache's memory.",
    )
    context.add_argument(
        "--contexts",
        type=_list_of(str),
        default=("stale", "forecast"),
        metavar="LIST",
        help="the others are compared with the first",
    )
    context.add_argument("--cache-ratios", type=_list_of(number_in(0, 1)), default=(0.9, 0.7), metavar="R,R...")
    context.add_argument(
        "--scores",
        type=_list_of(str),
        default=("staleness", "random"),
        metavar="LIST",
        help="how the computed tokens are chosen",
    )
    context.add_argument(
        "--orders", type=_list_of(whole_number(0)), default=(2, 1), metavar="LIST", help="of the forecast of updates"
    )
    context.add_argument("--i-steps", type=whole_number(1), default=12, metavar="N", help="of the steps")
    context.add_argument("--samples", type=whole_number(2), default=8, metavar="N", help="all in one batch")
    add_run_arguments(context, least_steps=3)

    outputs = which.add_parser(
        "outputs",
        formatter_class=Help,
        help="is a model's whole output forecast as well as its blocks' updates?",
        description="Both forecasts at several numbers of I-steps, compared with as many full steps. Of networks "
        "of no known family the output alone can be forecast.",
    )
    outputs.add_argument(
        "--counts", type=_list_of(whole_number(2)), default=(25, 16, 12), metavar="N,N...", help="of I-steps"
    )
    outputs.add_argument("--samples", type=whole_number(1), default=6, metavar="N", help="all in one batch")
    add_run_arguments(outputs, least_steps=3)

    training = which.add_parser(
        "training",
        formatter_class=Help,
        help="what does one choice in training achieve, value by value?",
        description="Train anew for each value of one choice, and sample with the result, compared with the same time "
        "spent on more I-steps.",
    )
    training.add_argument(
        "--vary",
        type=_setting_and_values,
        required=True,
        metavar="NAME=V,V...",
        help="such as sparsity=0,0.001, every-step=no,yes, last-blocks=1,2 or iterations=5,10",
    )
    training.add_argument(
        "--minutes", type=number_in(0, 1e6), default=3.0, metavar="M", help="of training, for each value"
    )
    training.add_argument(
        "--i-steps", type=whole_number(2), default=12, metavar="N", help="of the steps of the compared runs"
    )
    training.add_argument(
        "--samples",
        type=whole_number(1),
        default=24,
        metavar="N",
        help="to compare, of every fourth class or example, which training does not use unless --labels names it",
    )
    add_plan_arguments(training)

    quantisation = which.add_parser(
        "quantisation",
        formatter_class=Help,
        help="do the gains and errors of smaller weights and of the cache add up?",
        description="The model in full and cached with plain, quantised and 2:4-pruned weights: bytes of the weights, "
        "speed-up by the clock, error.",
    )
    source = quantisation.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--shape",
        metavar="SHAPE",
        help="a published DiT's, such as DiT-XL/2-256, with random weights: only the time is meaningful",
    )
    quantisation.add_argument("--steps", type=whole_number(2), metavar="N", help="(default: 50, with --shape 6)")
    quantisation.add_argument(
        "--i-steps", type=whole_number(2, 50), default=17, metavar="N", help="of 50, or as large a share of --steps"
    )
    quantisation.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32", help="of the plain model")
    quantisation.add_argument("--variants", default=",".join(VARIANTS), metavar="LIST", help="of the weights")

    cli_generality.add_parser(which)

    for each in (conditions, quantisation):
        each.add_argument("--predictor", metavar="FILE", help="trained for this model")
        each.add_argument(
            "--samples", type=whole_number(1), default=6, metavar="N", help="of classes held out from training"
        )
        add_sigma_arguments(each)

    for each in (redundancy, settings, context, outputs, training):
        each.add_argument("--model", required=True, metavar="FILE", help="a DiT or a text-to-image model (see `info`)")
    for each in (conditions, source):
        each.add_argument(
            "--model", required=each is not source, metavar="FILE", help="a DiT as .safetensors or .pt (see `info`)"
        )
    for each in (redundancy, conditions, settings, context, outputs, training, quantisation):
        each.add_argument("--device", default="cpu", help="cpu or cuda")


def run(args: argparse.Namespace) -> None:
    if args.experiment == "generality":
        cli_generality.run(args)
        return
    device = device_named(args.device)
    try:
        if args.experiment in OF_ANY_MODEL:
            OF_ANY_MODEL[args.experiment](args, sampled_model(args.model, device, args.references))
        elif args.model is None:
            OF_DITS[args.experiment](args, random_dit(parse_shape(args.shape), torch.float32, device))
        else:
            OF_DITS[args.experiment](args, model_and_names(args.model, device)[0])
    except ValueError as error:
        raise CommandError(str(error)) from None


def _redundancy(args: argparse.Namespace, model: SampledModel) -> None:
    check_writable("--out", args.out)
    found = measure_redundancy(runs_of(args, model, args.samples)(HELD_OUT_SEEDS))
    print(
        f"{args.samples} samples, means over tokens; similarity (cosine) and change of each block's update from the "
        "step before"
    )
    print(
        "| steps | similarity, least of the blocks | most | change, least of the blocks | most |\n|---|---|---|---|---|"
    )
    for part in torch.arange(len(found.taus)).chunk(5):
        similarity, change = found.similarity[part].mean(dim=0), found.change[part].mean(dim=0)
        print(
            f"| {int(part[0]) + 1} to {int(part[-1]) + 1} | {similarity.min():.4f} | {similarity.max():.4f} "
            f"| {change.min():.3f} | {change.max():.3f} |"
        )
    draw_redundancy_chart(
        args.out,
        found,
        f"{Path(args.model).name}, {args.steps} steps of {args.solver} on {sigma_schedule_of(args, args.steps)}, "
        f"guidance {args.cfg:g}",
    )
    print(f"wrote {args.out}")


def _robustness(args: argparse.Namespace, model: DiT) -> None:
    settings, learned = _of_predictor(args, SampledDiT(model), DEFAULTS)
    schedule = sigma_schedule_of(args, max(condition.steps for condition in CONDITIONS))
    conditions = [replace(condition, schedule=schedule) for condition in CONDITIONS]
    found = compare(
        model, _held_out_labels(args, model), HELD_OUT_SEEDS, settings, args.i_step_share, conditions, learned
    )
    for line in robustness.table(found):
        print(line, flush=True)


def _settings(args: argparse.Namespace, model: SampledModel) -> None:
    settings, learned = _of_predictor(args, model, replace(DEFAULTS, shares=args.shares))
    setting, values = args.vary
    tried = [(value, each, learned) for value, each in settings_sweep.variants(setting, values, settings).items()]
    _print_sweep(args, model, setting, tried)


def _context(args: argparse.Namespace, model: SampledModel) -> None:
    rows = context_table.compare(
        partial(_held_out, args, model),
        args.steps,
        context_table.combinations(args.cache_ratios, args.scores, args.orders),
        args.contexts,
        args.i_steps,
        model.is_pixels,
    )
    for line in context_table.table(rows, args.contexts):
        print(line, flush=True)


@torch.no_grad()
def _outputs(args: argparse.Namespace, model: SampledModel) -> None:
    def start(steps: int) -> Run:
        of_steps = argparse.Namespace(**{**vars(args), "steps": steps})
        return runs_of(of_steps, model, args.samples)(HELD_OUT_SEEDS)

    for line in outputs_table.table(outputs_table.compare(start, args.steps, args.counts, model.is_pixels)):
        print(line, flush=True)


def _training(args: argparse.Namespace, model: SampledModel) -> None:
    setting, values = args.vary
    tried = training_sweep.trials(setting, values, training_sweep.Trial(plan_of(args), None, args.minutes))
    tell = partial(print, file=sys.stderr, flush=True)
    blocks, runs = [block for block, _ in model.blocks], runs_of(args, model, args.batch)
    _print_sweep(args, model, setting, training_sweep.trained(tried, model.network, blocks, runs, tell))


def _quantisation(args: argparse.Namespace, model: DiT) -> None:
    plain = model if args.dtype == "fp32" else compressed(model, args.dtype)
    variants = [variant for variant in args.variants.split(",") if variant != args.dtype]
    steps = args.steps or (50 if args.shape is None else 6)
    settings, learned = _of_predictor(args, SampledDiT(plain), DEFAULTS)
    with tqdm(total=quantisation_table.runs_per_table(variants), unit="run") as bar:
        pairs = quantisation_table.measure(
            plain,
            variants,
            _held_out_labels(args, plain),
            HELD_OUT_SEEDS,
            steps=steps,
            i_steps=max(2, round(args.i_steps * steps / 50)),
            settings=settings,
            learned=learned,
            schedule=sigma_schedule_of(args, steps),
            on_run=bar.update,
        )
    for line in quantisation_table.table(pairs, errors=args.shape is None):
        print(line, flush=True)


def _print_sweep(
    args: argparse.Namespace,
    model: SampledModel,
    setting: str,
    tried: Iterable[tuple[str, CacheSettings, TrainedParts]],
) -> None:
    if args.i_steps > args.steps:
        raise CommandError(f"--i-steps {args.i_steps}: a run of {args.steps} steps has no more than these")
    rows = settings_sweep.sweep(partial(_held_out, args, model), args.steps, tried, args.i_steps, model.is_pixels)
    for line in settings_sweep.table(setting, rows):
        print(line, flush=True)


def _held_out(args: argparse.Namespace, model: SampledModel, steps: int) -> Run:
    """A run of conditions that training does not use, always the same ones."""
    _, held_out = model.conditions_apart(args.labels)
    drawn = torch.randint(len(held_out), (args.samples,), generator=torch.Generator().manual_seed(HELD_OUT_SEEDS))
    sigmas = model.sigmas(sigma_schedule_of(args, steps), steps)
    noise = model.starting_noise(args.samples, HELD_OUT_SEEDS, sigmas)
    conditions = [held_out[index] for index in drawn.tolist()]
    return model.run(conditions, noise=noise, sigmas=sigmas, cfg=args.cfg, solver=args.solver)


def _setting_and_values(text: str) -> tuple[str, list[str]]:
    setting, _, values = text.partition("=")
    if not values:
        raise argparse.ArgumentTypeError(f"must be a setting and its values, such as cache-ratio=0.8,0.9, not '{text}'")
    return setting, values.split(",")


def _list_of(parsed: Callable[[str], Any]) -> Callable[[str], tuple]:
    return lambda text: tuple(map(parsed, text.split(",")))


def _of_predictor(
    args: argparse.Namespace, model: SampledModel, otherwise: CacheSettings
) -> tuple[CacheSettings, TrainedParts]:
    if args.predictor is None:
        return otherwise, TrainedParts()
    trained = predictor_for(args.predictor, model)
    return trained.settings, trained.learned([block for block, _ in model.blocks])


def _held_out_labels(args: argparse.Namespace, model: DiT) -> torch.Tensor:
    """(samples,) classes that training does not use, always the same ones."""
    _, held_out = kept_apart(range(model.config.num_classes))
    drawn = torch.randint(len(held_out), (args.samples,), generator=torch.Generator().manual_seed(HELD_OUT_SEEDS))
    return torch.tensor(held_out)[drawn].to(model.pos_embed.device)


OF_ANY_MODEL: dict[str, Callable[[argparse.Namespace, SampledModel], None]] = {
    "redundancy": _redundancy,
    "settings": _settings,
    "context": _context,
    "outputs": _outputs,
    "training": _training,
}
OF_DITS: dict[str, Callable[[argparse.Namespace, DiT], None]] = {
    "robustness": _robustness,
    "quantisation": _quantisation,
}
