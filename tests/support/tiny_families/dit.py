"""Our class-conditional DiT, loaded from a file by the pack's own node."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import tiny_models

from .tiny_model import TinyModel


def dit() -> TinyModel:
    with TemporaryDirectory() as folder:
        tiny = tiny_models.tiny_dit(Path(folder) / "dit.safetensors")
    return TinyModel("DiT", tiny.model, tiny.positive, tiny.negative, tiny.latent, detected=True)


TINY = {"DiT": dit}
