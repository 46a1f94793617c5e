"""Where predictors are kept: models/tokencache."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import folder_paths

from ..tokencache_core.predictor_file import SUFFIX, save_trained_cache
from ..tokencache_core.trained_cache import TrainedCache

FOLDER = "tokencache"

folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def file_to_write(name: str) -> Path:
    """The file called `name` in models/tokencache; ValueError for one that is there already or lies elsewhere."""
    plain = name.strip().removesuffix(SUFFIX)
    if not plain or plain != os.path.basename(plain) or plain.startswith(".") or "\\" in plain or not plain.isprintable():
        raise ValueError(f"save_as {name!r} is not a plain file name: write one without folders, such as my_predictor")
    folder = Path(folder_paths.get_folder_paths(FOLDER)[0])
    file = folder / f"{plain}{SUFFIX}"
    if file.exists():
        raise ValueError(f"{file} exists already: choose another name for save_as, or remove it")
    return file


def keep_in(file: Path) -> Callable[[TrainedCache], None]:
    """What writes a trained cache to `file`."""
    def keep(trained: TrainedCache) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_trained_cache(trained, file)
        logging.info(f"TokenCache: predictor written to {file}")
    return keep
