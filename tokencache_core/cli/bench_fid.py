"""`bench --fid-stats`: FID, sFID and the Inception score of a model with and without the cache (docs/fid.md)."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..bench.fid_run import ClassRuns, FidMethod, FidProtocol, figures, markdown, measure, open_folder
from ..bench.workload import Protocol
from ..dit.vae import vae_decoder, vae_weights
from ..likeness.fid import read_statistics
from ..likeness.inception import WEIGHTS_URL, InceptionFeatures, load_inception
from .options import CommandError, device_named, model_and_names, sigma_schedule_of, whole_number

INTERRUPTED = 130
# options that are only for --fid-stats
OWN = ("inception", "fid_out", "vae", "fid_batch", "prompts", "text_encoder", "resolution")
OF_PROMPTS = ("text_encoder", "vae", "resolution")  # options that --prompts needs
BATCH = 16
OTHERS = {  # options that cannot be used with --fid-stats, with their defaults
    "json": None,
    "predictor": None,
    "preset": [],
    "peers": None,
    "repeats": Protocol.repeats,
    "speedups": ",".join(f"{value:g}" for value in Protocol.speedups),
    "compared": ",".join(f"{value:g}" for value in Protocol.compared),
}


def add_fid_arguments(parser: argparse.ArgumentParser) -> None:
    fid = parser.add_argument_group(
        "with --model and --fid-stats",
        "FID, sFID and IS, with methods such as tokencache-20 (I-steps), ddim-25, dpmpp_2m-25 (steps); "
        "--samples (50000 as published), --steps, --seed, --solver, --schedule and --cfg say what is sampled "
        "(docs/fid.md)",
    )
    fid.add_argument(
        "--fid-stats",
        type=Path,
        metavar="NPZ",
        help="statistics of the data: mu, sigma, mu_s, sigma_s, as ADM publishes them",
    )
    fid.add_argument("--inception", type=Path, metavar="FILE", help=f"Inception's weights, fetched from {WEIGHTS_URL}")
    fid.add_argument(
        "--fid-out",
        type=Path,
        metavar="FOLDER",
        help="keep the features there, from which an interrupted call continues",
    )
    fid.add_argument(
        "--vae",
        type=Path,
        metavar="PATH",
        help="an AutoencoderKL's folder or .safetensors, for models that sample latents",
    )
    fid.add_argument(
        "--prompts",
        type=Path,
        metavar="TXT",
        help="one prompt per line: --model is a PixArt, sampled in ComfyUI; needs a checkout of the repository",
    )
    fid.add_argument("--text-encoder", type=Path, metavar="FILE", help="with --prompts: T5-XXL, as ComfyUI reads it")
    fid.add_argument("--resolution", type=whole_number(1), metavar="PX", help="with --prompts: side of the pictures")
    fid.add_argument("--fid-batch", type=whole_number(1), metavar="N", help=f"samples per batch (default: {BATCH})")


def fid_asked(args: argparse.Namespace) -> bool:
    """Whether --fid-stats was given; if not, CommandError for options that are only for it."""
    if args.fid_stats is not None:
        return True
    for name in OWN:
        if getattr(args, name) is not None:
            raise CommandError(f"{_option(name)} needs --fid-stats NPZ; add that, or omit {_option(name)}")
    return False


def run_fid(args: argparse.Namespace) -> None:
    if args.model is None:
        raise CommandError("--fid-stats needs --model FILE")
    for name, default in OTHERS.items():
        if getattr(args, name) != default:
            raise CommandError(f"{_option(name)} cannot be used with --fid-stats; omit it")
    if args.inception is None:
        raise CommandError(f"--inception: give torch-fidelity's Inception weights; fetch them once from {WEIGHTS_URL}")
    if args.fid_out is None:
        raise CommandError("--fid-out: give the folder for the features")
    if args.samples < 2:
        raise CommandError("--samples: a distance needs at least 2; published figures use 50000")
    protocol = FidProtocol(
        args.samples,
        args.fid_batch or BATCH,
        args.seed,
        args.steps,
        args.cfg,
        args.solver,
        sigma_schedule_of(args, args.steps),
    )
    methods = _methods(args.methods, protocol)
    with _refusing("--fid-stats"):
        known = read_statistics(args.fid_stats)
    device = device_named(args.device)
    start, decode, chosen = (_class_runs if args.prompts is None else _prompt_runs)(args, protocol, device)
    inception = _inception(args.inception, device)
    content = protocol.content(model=_sha256(Path(args.model)), inception=inception.sha256, **chosen)
    try:
        with _refusing("--fid-out"):
            open_folder(args.fid_out, content)
            measure(start, inception, decode, protocol, methods, args.fid_out)
            found = {method: figures(args.fid_out, method, protocol, known) for method in methods}
    except KeyboardInterrupt:
        print(
            f"interrupted; the measurements stay in {args.fid_out}, and the same command continues from there",
            file=sys.stderr,
        )
        raise SystemExit(INTERRUPTED) from None
    print(
        f"{args.samples} samples, {args.steps} steps of {args.solver} on {protocol.schedule}, guidance {args.cfg:g}, "
        f"seed {args.seed}; against {args.fid_stats.name}\n"
    )
    print(markdown(found))


Runs = tuple[Callable[[int], Callable[[FidMethod], Tensor]], Callable[[Tensor], Tensor], dict[str, str | int | None]]


def _class_runs(args: argparse.Namespace, protocol: FidProtocol, device: torch.device) -> Runs:
    """The runs of a class-conditional DiT: starts a batch (see `fid_run.measure`), decodes samples to pixels, and what
    the samples depend on besides the protocol.
    """
    for name in ("text_encoder", "resolution"):
        if getattr(args, name) is not None:
            raise CommandError(f"{_option(name)} needs --prompts TXT; add that, or omit {_option(name)}")
    with _refusing("--vae"):
        weights = None if args.vae is None else vae_weights(args.vae)
    model, _ = model_and_names(args.model, device)
    decode = _decoder(args.vae, model.config.in_channels, device)
    return ClassRuns(model, protocol), decode, {"vae": None if weights is None else _sha256(weights)}


def _prompt_runs(args: argparse.Namespace, protocol: FidProtocol, device: torch.device) -> Runs:
    """The same for a PixArt, which only the host can sample, outside the core."""
    for name in OF_PROMPTS:
        if getattr(args, name) is None:
            raise CommandError(f"--prompts: give {_option(name)}, too")
    with _refusing("--prompts"):
        try:
            prompt_runs = importlib.import_module("peers.prompt_runs")
            runs = prompt_runs.PromptRuns(
                Path(args.model),
                args.text_encoder,
                args.vae,
                prompt_runs.read_prompts(args.prompts),
                protocol,
                args.resolution,
                device,
            )
        except (ImportError, RuntimeError) as error:
            raise ValueError(
                f"needs a checkout of the repository with ComfyUI ({error}): run `make setup` there"
            ) from None
    files = {name: _sha256(getattr(args, name)) for name in ("vae", "text_encoder", "prompts")}
    return runs, runs.decode, {**files, "resolution": args.resolution}


@contextmanager
def _refusing(option: str) -> Iterator[None]:
    """Turn errors of reading, writing and bad input into a CommandError that names the option."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise CommandError(f"{option} {error}") from None


def _decoder(vae: Path | None, channels: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function from samples with `channels` channels to pixels (B, 3, H, W)."""
    if channels == 3 and vae is not None:
        raise CommandError(f"--vae {vae}: the model samples pixels; omit it")
    if channels == 3:
        return lambda samples: samples
    if vae is None:
        raise CommandError(
            f"--vae: the model samples {channels}-channel latents; give the folder or .safetensors of its VAE"
        )
    with _refusing("--vae"):
        return vae_decoder(vae, channels, device)


def _methods(text: str | None, protocol: FidProtocol) -> list[FidMethod]:
    """The full run and the methods in `text`; by default tokencache with two I-steps in five steps, as in the paper."""
    names = (
        [f"tokencache-{max(2, round(0.4 * protocol.steps))}"]
        if text is None
        else [name.strip() for name in text.split(",") if name.strip()]
    )
    try:
        return list(dict.fromkeys([protocol.full, *map(protocol.method, names)]))
    except ValueError as error:
        raise CommandError(f"--methods {text}: {error}") from None


def _inception(file: Path, device: torch.device) -> InceptionFeatures:
    with _refusing("--inception"):
        inception = load_inception(file, device)
    if not inception.published:
        print(
            f"warning: {file} is not the published file of weights: figures cannot be compared with published ones",
            file=sys.stderr,
        )
    return inception


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
