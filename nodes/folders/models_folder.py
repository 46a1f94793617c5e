"""The folder models/tokencache, in which predictors, presets and calibrations are kept."""

from __future__ import annotations

import os
from itertools import chain, count
from pathlib import Path

import folder_paths

FOLDER = "tokencache"

folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def file_to_write(name: str, suffix: str) -> Path:
    """The path of a new file in models/tokencache called `name`, with a number if that is taken.

    ValueError if `name` is not a plain file name.
    """
    plain = name.strip().removesuffix(suffix)
    if (
        not plain
        or plain != os.path.basename(plain)
        or plain.startswith(".")
        or "\\" in plain
        or not plain.isprintable()
    ):
        raise ValueError(f"save_as {name!r} is not a plain file name: write one without folders, such as my_predictor")
    return not_taken(Path(folder_paths.get_folder_paths(FOLDER)[0]), plain, suffix)


def not_taken(folder: Path, name: str, suffix: str) -> Path:
    """The first of name, name_2, name_3, ... that does not exist in `folder`."""
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(file for file in (folder / f"{each}{suffix}" for each in names) if not file.exists())
