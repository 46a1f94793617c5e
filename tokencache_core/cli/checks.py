"""What all commands share: one clear line for bad input, found before any work is done."""

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
from ..files.fingerprint import fingerprint_of
from ..predictor.file import PredictorFileError, read_trained_cache
from ..predictor.trained_cache import TrainedCache

BAD_INPUT = 2  # the exit code, which is argparse's own


class CommandError(Exception):
    """Bad input: one line that names the option or file and the remedy."""


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that names the default of every option that has one and does not explain it itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def number_in(least: float, most: float, kind: Callable[[str], float] = float) -> Callable[[str], float]:
    """An argparse type: a number of `kind` between two ends."""

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
    """Refuse an output that could not be written, before minutes of work go into it."""
    folder = file.parent
    if not folder.is_dir():
        raise CommandError(f"{option} {file}: there is no folder {folder}; create it or name another")
    if file.is_dir():
        raise CommandError(f"{option} {file}: that is a folder; name a file in it")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise CommandError(f"{option} {file}: it cannot be written; choose a place where you may write")


def device_named(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # torch names a missing CUDA with an assertion
        raise CommandError(f"--device {name}: torch cannot use it here; take cpu, or cuda with a GPU") from None
    return device


def model_and_names(file: str, device: torch.device) -> tuple[DiT, tuple[str, ...] | None]:
    """The DiT of `--model FILE` in fp32, and its class names where it has any."""
    try:
        model = load_dit(file, device=device)
        _, config, metadata = read_dit(file)
        return model, class_names(metadata, config.num_classes)
    except ModelFileError as error:
        raise CommandError(f"--model {error}") from None


def predictor_for(file: str, model: DiT) -> TrainedCache:
    """The trained cache of `--predictor FILE`, refused where it belongs to another architecture."""
    try:
        trained = read_trained_cache(file)
        if trained.fingerprint.compare(fingerprint_of("DiT", model.blocks)) == "other weights":
            print(f"warning: {file} was trained on other weights of this architecture", file=sys.stderr)
        trained.learned(model.blocks)
    except PredictorFileError as error:
        raise CommandError(f"--predictor {error}") from None
    except ValueError as error:
        raise CommandError(f"--predictor {file}: {error}") from None
    return trained
