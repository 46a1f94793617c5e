"""Where predictors, presets and calibrations are kept: models/tokencache; and where plain LoRAs go: models/loras."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

import folder_paths
from comfy.model_patcher import ModelPatcher
from safetensors.torch import save_file

from ..tokencache_core.lora import plain_lora
from ..tokencache_core.predictor_file import SUFFIX, save_trained_cache
from ..tokencache_core.trained_cache import TrainedCache
from .families import family_of
from .model_fingerprint import model_fingerprint
from .node_text import tell_written

FOLDER = "tokencache"

folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def file_to_write(name: str, suffix: str = SUFFIX) -> Path:
    """A new file called `name` in models/tokencache, with a number where that is taken; ValueError for one that lies elsewhere."""
    plain = name.strip().removesuffix(suffix)
    if not plain or plain != os.path.basename(plain) or plain.startswith(".") or "\\" in plain or not plain.isprintable():
        raise ValueError(f"save_as {name!r} is not a plain file name: write one without folders, such as my_predictor")
    return _not_taken(Path(folder_paths.get_folder_paths(FOLDER)[0]), plain, suffix)


def plain_export(trained: TrainedCache, model: ModelPatcher, name: str) -> Callable[[], None]:
    """What writes the repair of `model` to models/loras; ValueError where it does not fit."""
    if trained.repair is None:
        raise ValueError("this predictor has no repair to write as a plain LoRA: disconnect the model")
    network = model.model.diffusion_model
    family = family_of(network)
    if family is None:
        raise ValueError(f"TokenCache does not know {type(network).__name__}: connect the model that the predictor was trained for")
    trained.fingerprint.compare(model_fingerprint(model))
    paths = family.block_paths(network)
    file = _not_taken(Path(folder_paths.get_folder_paths("loras")[0]), name, SUFFIX)

    def export() -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain_lora(trained.repair, lambda index: f"{paths[index]}."), file)
        tell_written("plain LoRA", file)
    return export


def _not_taken(folder: Path, name: str, suffix: str) -> Path:
    """name, name_2, name_3, ...: the first that is not there."""
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(file for file in (folder / f"{each}{suffix}" for each in names) if not file.exists())


def keep_in(file: Path) -> Callable[[TrainedCache], None]:
    """What writes a trained cache to `file`."""
    def keep(trained: TrainedCache) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_trained_cache(trained, file)
        tell_written("predictor", file)
    return keep
