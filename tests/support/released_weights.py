"""Files of weights in the layout of Open-Sora-Plan's release, and tensors that only another model would have."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

NAME = "diffusion_pytorch_model.safetensors"


def saved(folder: Path, tensors: dict[str, Tensor], said: dict | None = None) -> Path:
    """A file of `tensors`, with a config.json if something is `said`."""
    save_file(tensors, folder / NAME)
    if said is not None:
        (folder / "config.json").write_text(json.dumps(said))
    return folder / NAME


def of_another(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Tensors of zeros by their names, in which two underscores stand for a dot."""
    return {key.replace("__", "."): torch.zeros(shape) for key, shape in shapes.items()}
