"""A predictor's files: the predictor in models/tokencache, and its repair as a plain LoRA in models/loras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folder_paths
from comfy.model_patcher import ModelPatcher
from safetensors.torch import save_file

from ...tokencache_core.predictor.file import SUFFIX, save_trained_cache
from ...tokencache_core.predictor.lora import plain_lora
from ...tokencache_core.predictor.trained_cache import TrainedCache
from ..families import known_family
from ..host.model_fingerprint import model_fingerprint
from ..host.node_text import tell_written
from .models_folder import not_taken


def plain_export(trained: TrainedCache, model: ModelPatcher, name: str) -> Callable[[], None]:
    """A function that writes the repair for `model` to models/loras; ValueError if it does not fit."""
    repair = trained.repair
    if repair is None:
        raise ValueError("this predictor has no repair to write as a plain LoRA: disconnect the model")
    network = model.model.diffusion_model
    family = known_family(network, "connect the model that the predictor was trained for")
    trained.fingerprint.compare(model_fingerprint(model))
    paths = family.block_paths(network)
    file = not_taken(Path(folder_paths.get_folder_paths("loras")[0]), name, SUFFIX)

    def export() -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain_lora(repair, lambda index: f"{paths[index]}."), file)
        tell_written(file)

    return export


def keep_in(file: Path) -> Callable[[TrainedCache], None]:
    """A function that writes a trained cache to `file`."""

    def keep(trained: TrainedCache) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_trained_cache(trained, file)
        tell_written(file)

    return keep
