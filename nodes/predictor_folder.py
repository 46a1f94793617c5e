"""Where predictors and presets are kept: models/tokencache; and where plain LoRAs go: models/loras."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import folder_paths
from comfy.model_patcher import ModelPatcher
from safetensors.torch import save_file

from ..tokencache_core.fingerprint import fingerprint_of
from ..tokencache_core.lora import plain_lora
from ..tokencache_core.predictor_file import SUFFIX, save_trained_cache
from ..tokencache_core.trained_cache import TrainedCache
from .families import family_of

FOLDER = "tokencache"

folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def file_to_write(name: str, suffix: str = SUFFIX) -> Path:
    """The file called `name` in models/tokencache; ValueError for one that is there already or lies elsewhere."""
    plain = name.strip().removesuffix(suffix)
    if not plain or plain != os.path.basename(plain) or plain.startswith(".") or "\\" in plain or not plain.isprintable():
        raise ValueError(f"save_as {name!r} is not a plain file name: write one without folders, such as my_predictor")
    folder = Path(folder_paths.get_folder_paths(FOLDER)[0])
    file = folder / f"{plain}{suffix}"
    if file.exists():
        raise ValueError(f"{file} exists already: choose another name for save_as, or remove it")
    return file


def plain_export(trained: TrainedCache, model: ModelPatcher, name: str) -> Callable[[], None]:
    """What writes the repair of `model` to models/loras; ValueError where it does not fit, or the file is there."""
    if trained.repair is None:
        raise ValueError("this predictor has no repair to write as a plain LoRA: disconnect the model")
    network = model.model.diffusion_model
    family = family_of(network)
    if family is None:
        raise ValueError(f"TokenCache does not know {type(network).__name__}: connect the model that the predictor was trained for")
    trained.fingerprint.compare(fingerprint_of(family.name, [block for block, _ in family.blocks(network)]))
    paths = family.block_paths(network)
    file = Path(folder_paths.get_folder_paths("loras")[0]) / f"{name}{SUFFIX}"
    if file.exists():
        raise ValueError(f"{file} exists already: choose another name for save_as, or remove it")

    def export() -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain_lora(trained.repair, lambda index: f"{paths[index]}."), file)
        logging.info(f"TokenCache: plain LoRA written to {file}")
    return export


def keep_in(file: Path) -> Callable[[TrainedCache], None]:
    """What writes a trained cache to `file`."""
    def keep(trained: TrainedCache) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_trained_cache(trained, file)
        logging.info(f"TokenCache: predictor written to {file}")
    return keep
