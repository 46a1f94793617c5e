"""`info FILE`: prints the contents of a model file or a predictor file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from torch import Tensor

from ..dit.checkpoint import ModelFileError, read_dit
from ..dit.class_labels import class_names
from ..dit.model import DiTConfig
from ..flux.config import FluxConfig
from ..flux.file import FluxFileError, is_flux_file, read_flux
from ..open_sora_plan.checkpoint import is_clip_file, read_video_transformer
from ..open_sora_plan.config import VideoConfig
from ..open_sora_plan.released_files import VideoFileError
from ..predictor.file import PredictorFileError, holds_predictor, read_trained_cache
from ..predictor.trained_cache import TrainedCache
from .options import CommandError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "info",
        help="print what a model or predictor file holds",
        description="Print a model file's shape, parameters, classes or prompts, and metadata, or what a predictor "
        "file was trained for, how, and with what result.",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a DiT as .safetensors or .pt, in the original release's key layout, or a text-to-image model or a "
        "predictor as .safetensors",
    )


def run(args: argparse.Namespace) -> None:
    try:
        if holds_predictor(args.file):
            lines = list(_predictor_lines(read_trained_cache(args.file)))
        elif is_flux_file(args.file):
            lines = list(_flux_lines(args.file))
        elif is_clip_file(args.file):
            lines = list(_clip_lines(args.file))
        else:
            lines = list(_dit_lines(args.file))
    except (FluxFileError, ModelFileError, PredictorFileError, VideoFileError) as error:
        raise CommandError(str(error)) from None
    print(f"file: {args.file}")
    for line in lines:
        print(line)


def _clip_lines(file: str) -> Iterator[str]:
    tensors, config, prompts = read_video_transformer(file)
    assert prompts is not None and isinstance(config, VideoConfig)
    yield f"{config.depth} pairs of blocks, width {config.width}, {config.heads} heads, patch {config.patch_size}"
    yield f"{sum(tensor.numel() for tensor in tensors.values()):,} parameters"
    yield f"clips of {config.video_length} frames of {config.sample_size} x {config.sample_size}"
    yield f"{len(prompts.words)} words; prompts: {', '.join(prompts.examples)}"


def _dit_lines(file: str) -> Iterator[str]:
    state_dict, config, metadata = read_dit(file)
    names = class_names(metadata, config.num_classes)
    yield from _size_lines(state_dict, config)
    yield f"classes: {config.num_classes}, null class {config.num_classes}"
    for index, name in enumerate(names or ()):
        yield f"  {index} {name}"
    for key, value in sorted(metadata.items()):
        if key != "class_names":
            yield f"metadata {key}: {value}"


def _flux_lines(file: str) -> Iterator[str]:
    tensors, said = read_flux(file)
    yield from _size_lines(tensors, said.config)
    yield f"prompts: of up to {said.length} words out of {len(said.words):,}, {len(said.examples):,} examples"
    yield from (_printable(f"  {example}") for example in said.examples[:10])
    yield _printable(f"licence: {said.licence}")


def _size_lines(state_dict: Mapping[str, Tensor], config: DiTConfig | FluxConfig) -> Iterator[str]:
    grid = config.input_size // config.patch_size
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state_dict.values()})
    space = "pixels" if config.in_channels == 3 else "VAE latents" if config.in_channels == 4 else "unknown space"
    yield f"parameters: {sum(tensor.numel() for tensor in state_dict.values()):,} ({', '.join(dtypes)})"
    yield f"tokens: {grid * grid} ({grid}x{grid}) of {config.input_size}x{config.input_size} inputs in {space}"
    for name, value in asdict(config).items():
        yield f"{name}: {value}"


def _predictor_lines(trained: TrainedCache) -> Iterator[str]:
    predictor, repair, calibration, log = trained.predictor, trained.repair, trained.calibration, trained.log
    yield f"kind: {_kind(trained)}"
    yield f"fits: {trained.fingerprint.architecture}"
    yield f"settings: {trained.settings.text()}"
    yield f"interval: {trained.interval}"
    shares = " ".join(f"{share:.3g}" for share in trained.shares)
    yield f"block shares: {shares or f'as the settings say ({trained.settings.shares})'}"
    if predictor:
        yield f"predictor parameters: {sum(tensor.numel() for tensor in predictor.tensors.values()):,}"
    if repair:
        layers = sum(len(pairs) for pairs in repair.blocks.values())
        blocks = ", ".join(map(str, repair.blocks))
        yield f"LoRA rank: {repair.rank}, alpha {repair.alpha:g}, on {layers} layers of the blocks {blocks}"
    for (first, last), forecast in trained.forecasts.items():
        size = sum(weight.numel() for weight in forecast.parameters())
        yield f"learned forecast: order {forecast.order}, of the blocks {first} to {last}, {size:,} parameters"
    if calibration:
        yield f"calibration: {calibration.samples:,} samples at {len(calibration.taus):,} times"
    else:
        yield "calibration: none"
    if log:
        held_out = [f"{point.held_out:.4g}" for point in log if point.held_out is not None]
        yield f"training: {log[-1].iteration:,} iterations in {log[-1].seconds:,.0f} seconds"
        yield f"loss: {log[0].loss:.4g} at first, {log[-1].loss:.4g} at last"
        yield f"held-out error: {f'{held_out[0]} at first, {held_out[-1]} at last' if held_out else 'not measured'}"
    for name, note in sorted(trained.notes.items()):
        yield _printable(f"note {name}: {note}")


def _kind(trained: TrainedCache) -> str:
    parts = []
    if trained.predictor:
        parts.append(f"predictor ({trained.predictor.kind})")
    if trained.repair:
        parts.append("LoRA repair")
    if trained.forecasts:
        parts.append("learned forecast")
    if trained.calibration:
        parts.append("calibration")
    return " + ".join(parts) or "settings alone"


def _printable(text: str) -> str:
    """`text` on one line, without control characters, which a file from elsewhere may contain."""
    return "".join(char if char.isprintable() else " " for char in text)
