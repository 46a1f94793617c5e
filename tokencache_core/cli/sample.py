"""`sample`: a grid of pictures, sampled with the cache and, for comparison, without it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..engine.allocation import compute_share
from ..likeness.metrics import flicker, psnr, ssim
from ..predictor.trained_cache import TrainedCache
from ..predictor.trained_parts import TrainedParts
from ..reporting.picture_grid import picture_grid, save_png
from ..runs.cached_sampling import sample_cached
from ..runs.sampled_model import SampledModel
from ..sampling.noise_schedule import TRAIN_STEPS
from ..sampling.samplers import SOLVERS
from ..schedules.automatic import AutomaticSchedule
from ..schedules.choices import parse_steps
from ..schedules.schedule import (
    CountSchedule,
    ErrorBoundSchedule,
    ExplicitSchedule,
    Schedule,
    SpeedupSchedule,
    UniformSchedule,
)
from ..settings import CONTEXTS, DEFAULTS, MAX_REACH, SCORES, SHARES, CacheSettings
from .options import (
    ORDERS,
    CommandError,
    Help,
    add_conditions_argument,
    add_sigma_arguments,
    check_writable,
    device_named,
    number_in,
    predictor_for,
    sampled_model,
    sigma_schedule_of,
    whole_number,
)

MOST_COLUMNS = 10


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "sample",
        help="sample a grid of pictures with and without the cache",
        description="Sample a DiT or a text-to-image model through TokenCache, print the cache's report and write a "
        "PNG of all samples (or their latents, for a model that works on VAE latents).",
        formatter_class=Help,
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="a DiT or a text-to-image model (see `info`)")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help=".png, or .safetensors for the raw samples"
    )
    add_conditions_argument(parser, "the first 10")
    parser.add_argument(
        "--samples", type=whole_number(1), metavar="N", help="how many; labels are repeated (default: one per label)"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="sample i has the noise of seed N + i"
    )
    parser.add_argument("--steps", type=whole_number(1, TRAIN_STEPS), default=50, metavar="N", help="denoise steps")
    parser.add_argument(
        "--cfg", type=number_in(0, 100), default=4.0, metavar="SCALE", help="classifier-free guidance; 1: none"
    )
    parser.add_argument("--solver", choices=SOLVERS, default="ddim", help="sampler")
    add_sigma_arguments(parser)
    parser.add_argument(
        "--cache",
        choices=("on", "off", "both"),
        default="on",
        help="both: the full run above, the cached one below, and their distance",
    )
    parser.add_argument(
        "--plain",
        type=_solvers,
        default=[],
        metavar="LIST",
        help="with --cache both: also as many uncached steps as compute as much as the cached run, of each of these "
        "solvers, comma-separated",
    )
    add_cache_arguments(parser)
    parser.add_argument("--predictor", metavar="FILE", help="trained for this model; brings its own K")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("cache")
    group.add_argument(
        "--cache-ratio",
        type=number_in(0, 1),
        default=DEFAULTS.cache_ratio,
        metavar="R",
        help="r: share of the tokens that P-steps reuse; 1 computes none, 0 all",
    )
    group.add_argument(
        "--order",
        type=int,
        choices=ORDERS,
        help="0 reuses updates, 1 and 2 forecast them by a line or a parabola (default: a line, and as much of the "
        "parabola as the run's own I-steps show)",
    )
    group.add_argument(
        "--warmup", type=whole_number(1), default=2, metavar="N", help="the first N steps are I-steps, with --interval"
    )
    instead = group.add_mutually_exclusive_group()
    instead.add_argument(
        "--interval",
        type=whole_number(1),
        metavar="N",
        help="every N-th step is an I-step (default: as many as usual, where they lie on known models)",
    )
    instead.add_argument("--i-steps", metavar="LIST", help="these I-steps, counted from 0, comma-separated")
    instead.add_argument(
        "--i-step-count",
        type=whole_number(1),
        metavar="N",
        help="N I-steps where they lie on known models, or by the calibration of --predictor",
    )
    instead.add_argument(
        "--speed-up",
        type=number_in(1, 100),
        metavar="X",
        help="as many I-steps as a run that is X times as fast has, placed likewise",
    )
    instead.add_argument(
        "--error-bound",
        type=number_in(0, 10),
        metavar="E",
        help="an I-step where the expected error since the last one, as a share of x, would cross E",
    )
    group.add_argument(
        "--last-blocks",
        type=whole_number(0),
        default=DEFAULTS.last_blocks,
        metavar="K",
        help="K: final blocks that are always computed",
    )
    group.add_argument("--context", choices=CONTEXTS, default=DEFAULTS.context, help="what computed tokens attend to")
    group.add_argument("--score", choices=SCORES, default=DEFAULTS.score, help="how the computed tokens are chosen")
    group.add_argument("--shares", choices=SHARES, default=DEFAULTS.shares, help="where in depth tokens are computed")
    group.add_argument(
        "--corrector",
        type=number_in(0, 1),
        default=DEFAULTS.corrector,
        metavar="S",
        help="share of the P-steps' error that the next I-step takes back, with ddim",
    )
    group.add_argument(
        "--reach",
        type=number_in(0, MAX_REACH),
        default=DEFAULTS.reach,
        metavar="X",
        help="forecasts are taken X times as far from the last I-step as the P-step is from it",
    )


def cache_settings(args: argparse.Namespace) -> CacheSettings:
    return CacheSettings(
        cache_ratio=args.cache_ratio,
        order=DEFAULTS.order if args.order is None else args.order,
        fitted=args.order is None,
        last_blocks=args.last_blocks,
        context=args.context,
        score=args.score,
        shares=args.shares,
        corrector=args.corrector,
        reach=args.reach,
        seed=args.seed,
    )


def _solvers(text: str) -> list[str]:
    named = text.split(",")
    if unknown := [name for name in named if name not in SOLVERS]:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}; name some of {', '.join(SOLVERS)}")
    return named


def schedule_of(args: argparse.Namespace, trained: TrainedCache | None = None, p_step: float = 0.0) -> Schedule:
    """The schedule that the options describe.

    trained: the predictor, which may bring a schedule.
    p_step: the share of all block-tokens that a P-step computes.
    """
    placed: Callable[[int], Schedule] = CountSchedule
    if trained is not None and trained.calibration is not None:
        placed = trained.percentiles
    named = ("interval", "i_steps", "i_step_count", "speed_up", "error_bound")
    option = next((name for name in named if getattr(args, name) is not None), None)
    if option is None:
        return AutomaticSchedule() if trained is None else UniformSchedule(trained.interval)
    try:
        if option == "i_steps":
            return ExplicitSchedule(parse_steps(args.i_steps))
        if option == "i_step_count":
            return placed(args.i_step_count)
        if option == "speed_up":
            schedule = SpeedupSchedule(args.speed_up, placed, 0.0 if trained is None else trained.p_step).costing(
                p_step
            )
            if why := schedule.out_of_reach(args.steps):
                raise ValueError(why)
            return schedule
        return (
            UniformSchedule(args.interval, args.warmup)
            if option == "interval"
            else ErrorBoundSchedule(args.error_bound)
        )
    except ValueError as error:
        raise CommandError(f"--{option.replace('_', '-')} {getattr(args, option)}: {error}") from None


def run(args: argparse.Namespace) -> None:
    check_writable("--out", args.out)
    if args.out.suffix not in (".png", ".safetensors"):
        raise CommandError(f"--out {args.out}: write a .png of the samples, or a .safetensors of their raw values")
    if args.plain and args.cache != "both":
        raise CommandError("--plain is compared with a full run beside a cached one; add --cache both")
    schedule_of(args)  # what can be refused without the model
    sigma_schedule = sigma_schedule_of(args, args.steps)
    model = sampled_model(args.model, device_named(args.device), args.references)
    blocks, is_pixels = [block for block, _ in model.blocks], model.is_pixels
    if args.out.suffix == ".png" and not is_pixels:
        raise CommandError(
            f"--out {args.out}: this model makes {model.noise_shape(1)[1]}-channel latents, not pictures; name a "
            ".safetensors"
        )
    if args.last_blocks > len(blocks):
        raise CommandError(
            f"--last-blocks {args.last_blocks}: the model has only {len(blocks)} blocks; take at most as many"
        )
    conditions = _conditions(args, model)
    try:
        sigmas = model.sigmas(sigma_schedule, args.steps)
    except ValueError as error:
        raise CommandError(f"--schedule {sigma_schedule.name}: {error}") from None
    noise = model.starting_noise(len(conditions), args.seed, sigmas)
    sampling = model.run(conditions, noise=noise, sigmas=sigmas, cfg=args.cfg, solver=args.solver)

    settings, learned, trained = cache_settings(args), TrainedParts(), None
    if args.predictor is not None:
        trained = predictor_for(args.predictor, model)
        settings, learned = trained.apply_to(settings), trained.learned(blocks)
    schedule = schedule_of(args, trained, compute_share(settings, len(blocks), learned.shares))

    results: dict[str, Tensor] = {}
    if args.cache != "on":
        with _progress(model, args.steps, "full"):
            started = time.perf_counter()
            with torch.no_grad():
                results["full"] = sampling.sample().cpu()
            full_seconds = time.perf_counter() - started
        print(f"full run: {full_seconds:.2f} s")
    if args.cache != "off":
        with _progress(model, args.steps, "cached"):
            pictures, report = sample_cached(sampling, settings, schedule, learned=learned)
        results["cached"] = pictures.cpu()
        print(report.text())
    if args.cache == "both":
        how = f"{full_seconds / report.seconds:.2f}x by the clock (one run each), "
        print(f"cached against full: {how}{_distance(results['cached'], results['full'], is_pixels)}")
    for solver in args.plain:
        steps = max(round(report.compute * args.steps), 1)
        few = model.sigmas(sigma_schedule, steps)
        plain = model.run(conditions, noise=noise, sigmas=few, cfg=args.cfg, solver=solver)
        with _progress(model, steps, solver), torch.no_grad():
            results[solver] = plain.sample().cpu()
        distance = _distance(results[solver], results["full"], is_pixels)
        print(f"{steps} uncached steps of {solver} against full: {distance}")
    _write(args.out, results, min(MOST_COLUMNS, len(conditions)))
    print(f"wrote {args.out}")


def _conditions(args: argparse.Namespace, model: SampledModel) -> list:
    try:
        chosen = model.conditions(args.labels)
    except ValueError as error:
        raise CommandError(f"--labels {args.labels}: {error}") from None
    count = args.samples or len(chosen)
    return [chosen[i % len(chosen)] for i in range(count)]


@contextmanager
def _progress(model: SampledModel, steps: int, name: str) -> Iterator[None]:
    """A bar on stderr that moves with every call of the model."""
    with tqdm(total=steps, desc=name, unit="step") as bar:
        handle = model.network.register_forward_hook(lambda *_: bar.update() and None)
        try:
            yield
        finally:
            handle.remove()


def _distance(samples: Tensor, full: Tensor, is_pixels: bool) -> str:
    found = f"PSNR {psnr(samples, full, clamp=is_pixels).mean():.1f} dB"
    if is_pixels:
        found += f", SSIM {ssim(samples, full).mean():.4f}"
    if full.dim() == 5:
        found += f", flicker {flicker(samples, full).mean():.4f} of a range of 2"
    return found


def _frames_in_a_row(samples: Tensor) -> Tensor:
    """Pictures (B, C, H, W), or clips (B, C, F, H, W) as pictures of their frames side by side."""
    return samples if samples.dim() == 4 else samples.transpose(2, 3).flatten(3)


def _write(file: Path, results: dict[str, Tensor], columns: int) -> None:
    try:
        if file.suffix == ".png":
            save_png(file, picture_grid([_frames_in_a_row(samples) for samples in results.values()], columns))
        else:
            save_file({name: samples.contiguous() for name, samples in results.items()}, file)
    except OSError as error:
        raise CommandError(f"--out {file}: it could not be written ({error.strerror or error})") from None
