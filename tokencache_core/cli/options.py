"""Options that commands share, and checks that report bad input in one clear line before any work is done."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from ..dit.checkpoint import ModelFileError, load_dit, read_dit
from ..dit.class_labels import class_names
from ..dit.model import DiT
from ..dit.sampled import SampledDiT
from ..files.fingerprint import Fingerprint, fingerprint_of
from ..flux.edits import SampledEdits, read_edits
from ..flux.file import FluxFileError, is_flux_file, load_flux
from ..flux.sampled import SampledFlux
from ..open_sora_plan.checkpoint import is_clip_file, load_video_transformer
from ..open_sora_plan.released_files import VideoFileError
from ..open_sora_plan.sampled import SampledVideo
from ..predictor.file import PredictorFileError, read_trained_cache
from ..predictor.token_scores import KINDS
from ..predictor.trained_cache import TrainedCache
from ..runs.run import HELD_OUT_SEEDS
from ..runs.sampled_model import RandomRuns, SampledModel
from ..sampling.noise_schedule import TRAIN_STEPS
from ..sampling.samplers import SOLVERS
from ..sampling.sigma_schedule import FLOW, SCHEDULES, SigmaSchedule
from ..settings import DEFAULTS, MAX_ORDER, MAX_REACH, CacheSettings
from ..training.distributed import Processes
from ..training.plan import LOSSES, PRECISIONS, TrainingPlan

BAD_INPUT = 2  # the exit code, which is argparse's own
ORDERS = tuple(range(MAX_ORDER + 1))  # of forecasts


class CommandError(Exception):
    """Bad input: one line that names the option or file and the remedy."""


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """A help formatter that shows the default of every option unless the option's help explains it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def number_in(least: float, most: float, kind: Callable[[str], float] = float) -> Callable[[str], float]:
    """An argparse type: a number of `kind` (float or int) from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            article = "a whole number" if kind is int else "a number"
            ends = f"at least {least:g}" if most == float("inf") else f"between {least:g} and {most:g}"
            raise argparse.ArgumentTypeError(f"must be {article} {ends}, not '{text}'")
        return value

    return parse


def whole_number(least: int, most: float = float("inf")) -> Callable[[str], float]:
    return number_in(least, most, int)


def check_writable(option: str, file: Path) -> None:
    """CommandError if the output of `option` cannot be written, before minutes of work are spent on it."""
    folder = file.parent
    if not folder.is_dir():
        raise CommandError(f"{option} {file}: there is no folder {folder}; create it or give another")
    if file.is_dir():
        raise CommandError(f"{option} {file}: that is a folder; give a file in it")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise CommandError(f"{option} {file}: it cannot be written; choose a folder that you may write to")


def device_named(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # torch reports missing CUDA by an assertion
        raise CommandError(f"--device {name}: torch cannot use it here; use cpu, or cuda with a GPU") from None
    return device


def model_and_names(file: str, device: torch.device) -> tuple[DiT, tuple[str, ...] | None]:
    """The DiT of `--model FILE` in float32, and its class names, if it has any."""
    try:
        model = load_dit(file, device=device)
        _, config, metadata = read_dit(file)
        return model, class_names(metadata, config.num_classes)
    except ModelFileError as error:
        raise CommandError(f"--model {error}") from None


def sampled_model(file: str, device: torch.device, references: Path | None = None) -> SampledModel:
    """The model of `--model FILE` in fp32, whichever kind it is, with the pictures of `--references FOLDER`."""
    if not is_flux_file(file):
        if references is not None:
            raise CommandError("--references: pictures to go by are for text-to-image models, and this is none")
        if is_clip_file(file):
            return _sampled_video(file, device)
        return SampledDiT(*model_and_names(file, device))
    try:
        model = load_flux(file, device=device)
    except FluxFileError as error:
        raise CommandError(f"--model {error}") from None
    if references is None:
        return SampledFlux(model)
    try:
        return SampledEdits(model, read_edits(references, model.network.config.input_size))
    except ValueError as error:
        raise CommandError(f"--references {error}") from None


def _sampled_video(file: str, device: torch.device) -> SampledVideo:
    try:
        network, prompts = load_video_transformer(file, device=device)
    except VideoFileError as error:
        raise CommandError(f"--model {error}") from None
    assert prompts is not None  # the file says that it brings its own
    return SampledVideo(network, prompts.to(device))


def fingerprint_for(model: SampledModel) -> Fingerprint:
    return fingerprint_of(model.architecture, [block for block, _ in model.blocks])


def predictor_for(file: str, model: SampledModel) -> TrainedCache:
    """The trained cache of `--predictor FILE`, refused where it belongs to another architecture."""
    try:
        trained = read_trained_cache(file)
        if trained.fingerprint.compare(fingerprint_for(model)) == "other weights":
            print(f"warning: {file} was trained on other weights of this architecture", file=sys.stderr)
        trained.learned([block for block, _ in model.blocks])
    except PredictorFileError as error:
        raise CommandError(f"--predictor {error}") from None
    except ValueError as error:
        raise CommandError(f"--predictor {file}: {error}") from None
    return trained


def add_sigma_arguments(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default=SigmaSchedule.name,
        help=f"of sigmas: ddpm is ComfyUI's simple, {FLOW} is for flow models, the others are ComfyUI's",
    )
    parser.add_argument(
        "--shift",
        type=float,
        metavar="X",
        help=f"with --schedule {FLOW}: more steps at high noise, such as 3 for pictures (default: 1, none)",
    )


def sigma_schedule_of(args: argparse.Namespace, steps: int) -> SigmaSchedule:
    """The schedule of sigmas; CommandError if the shift or the number of steps does not suit it."""
    try:
        schedule = SigmaSchedule(args.schedule, args.shift)
    except ValueError as error:
        raise CommandError(f"--shift {args.shift:g}: {error}") from None
    try:
        schedule.sigmas(steps)
    except ValueError as error:
        raise CommandError(f"--schedule {schedule.name}: {error}") from None
    return schedule


def add_conditions_argument(parser: argparse._ActionsContainer, default: str) -> None:
    parser.add_argument(
        "--labels",
        "--prompts",
        metavar="LIST",
        help=f"class indices or names of a DiT, prompts of a text-to-image model, comma-separated (default: {default})",
    )
    add_references_argument(parser)


def add_references_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--references",
        type=Path,
        metavar="FOLDER",
        help="edit these pictures with a text-to-image model, each by the prompt that is its file's name",
    )


def add_run_arguments(parser: argparse._ActionsContainer, least_steps: int) -> None:
    add_conditions_argument(parser, "all but every fourth")
    parser.add_argument(
        "--steps", type=whole_number(least_steps, TRAIN_STEPS), default=50, metavar="N", help="denoise steps"
    )
    parser.add_argument("--cfg", type=number_in(0, 100), default=4.0, metavar="SCALE", help="classifier-free guidance")
    parser.add_argument("--solver", choices=SOLVERS, default="ddim", help="sampler")
    add_sigma_arguments(parser)


def runs_of(
    args: argparse.Namespace, model: SampledModel, batch: int, processes: Processes = Processes()
) -> RandomRuns:
    """The runs that the options describe, `batch` samples of each; ValueError for classes or prompts that the model
    does not know, and CommandError for sigmas that there are not.
    """
    training, measuring = model.conditions_apart(args.labels)
    part = (processes.rank, processes.count)
    return RandomRuns(
        model,
        training,
        measuring,
        batch=batch,
        steps=args.steps,
        cfg=args.cfg,
        solver=args.solver,
        schedule=sigma_schedule_of(args, args.steps),
        part=part,
    )


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    runs = parser.add_argument_group("the runs to learn from")
    add_run_arguments(runs, least_steps=4)
    runs.add_argument("--batch", type=whole_number(1), default=4, metavar="N", help="samples per run")
    cache = parser.add_argument_group("cache")
    cache.add_argument(
        "--cache-ratio", type=number_in(0, 1), default=1.0, metavar="R", help="r: share that P-steps reuse"
    )
    cache.add_argument(
        "--order", type=int, choices=ORDERS, default=DEFAULTS.order, help="0 reuses updates, 1 and 2 forecast them"
    )
    cache.add_argument(
        "--reach",
        type=number_in(0, MAX_REACH),
        default=DEFAULTS.reach,
        metavar="X",
        help="forecasts are taken X times as far from the last I-step as the P-step is from it",
    )
    cache.add_argument("--interval", type=whole_number(2), default=4, metavar="N", help="every N-th step is an I-step")
    cache.add_argument(
        "--last-blocks",
        type=whole_number(0),
        default=0,
        metavar="K",
        help="final blocks that run on P-steps, with LoRA",
    )
    cache.add_argument("--rank", type=whole_number(1), default=16, metavar="N", help="of the adapters")
    cache.add_argument(
        "--predictor", choices=KINDS, default="", help="learn which tokens P-steps compute; needs --cache-ratio below 1"
    )
    cache.add_argument(
        "--every-step",
        action="store_true",
        help="predict the scores on every P-step, as in the paper, not once per window",
    )
    cache.add_argument(
        "--forecast-hidden",
        type=whole_number(0),
        default=96,
        metavar="N",
        help="width of the learned forecast's network; 0: the plain forecast",
    )
    learning = parser.add_argument_group("learning")
    learning.add_argument(
        "--loss",
        choices=LOSSES,
        default="run",
        help="where runs end, through all their steps; how far they have strayed after each window, with less memory; "
        "or each P-step's own error, as in the paper",
    )
    learning.add_argument("--soft", action="store_true", help="mix by the scores themselves, as in the paper")
    learning.add_argument(
        "--sparsity", type=number_in(0, 1e3), default=0.0, metavar="LAMBDA", help="weight of the mean score in the loss"
    )
    learning.add_argument("--learning-rate", type=number_in(0, 1), default=1e-3, metavar="R", help="Adam's")
    learning.add_argument(
        "--accumulate", type=whole_number(1), default=1, metavar="N", help="losses averaged for one update"
    )
    learning.add_argument("--precision", choices=PRECISIONS, default="fp32", help="bf16: mixed precision, for GPUs")
    learning.add_argument(
        "--checkpointing",
        action="store_true",
        help="less memory, more time: run the last blocks again in the backward pass",
    )
    learning.add_argument(
        "--seed", type=whole_number(0, HELD_OUT_SEEDS // 2), default=0, metavar="N", help="of noise and adapters"
    )


def plan_of(args: argparse.Namespace) -> TrainingPlan:
    """The plan that the options describe; ValueError for choices that cannot be trained."""
    return TrainingPlan(
        CacheSettings(
            cache_ratio=args.cache_ratio, order=args.order, fitted=False, last_blocks=args.last_blocks, reach=args.reach
        ),
        interval=args.interval,
        rank=args.rank,
        forecast_hidden=args.forecast_hidden,
        predictor=args.predictor,
        sparsity=args.sparsity,
        soft=args.soft,
        every_step=args.every_step,
        loss=args.loss,
        learning_rate=args.learning_rate,
        accumulate=args.accumulate,
        precision=args.precision,
        checkpointing=args.checkpointing,
        seed=args.seed,
    )
