"""Reads weights that are released as a pickle (a checkpoint of a VAE's training, or a text encoder), without running
any code in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from ..files.error_line import error_line

SUFFIXES = (".ckpt", ".bin")
AVERAGE, GENERATOR = "ema_state_dict", "gen_model"


def read_pickled_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; ValueError for a file that holds other things.

    Of a training's checkpoint, these are the generator's: its moving average or, for weights without one, the last
    step's.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise ValueError(
            f"{path.name} is damaged or holds more than weights ({error_line(error)}); download it again"
        ) from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path.name} holds no weights by name; choose another file")
    last = content.get("state_dict", content)
    return dict(_tensors(last.get(GENERATOR, last))) | dict(_tensors(content.get(AVERAGE) or {}))


def _tensors(weights: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(weights, Mapping):
        for key, tensor in weights.items():
            if isinstance(key, str) and isinstance(tensor, Tensor) and tensor.is_floating_point():
                yield key.removeprefix("module."), tensor
