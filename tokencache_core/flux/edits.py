"""Edits: prompts with a reference picture each, and a text-to-image model that is asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .asked_by_prompts import EXAMPLES
from .prompts import words_of
from .run import FluxRun
from .sampled import SampledFlux
from .text_to_image import TextToImage

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Edit:
    """A prompt, and its reference picture (3, H, W) in [-1, 1]."""

    prompt: str
    reference: Tensor


class SampledEdits(SampledFlux):
    """The `runs.sampled_model.SampledModel` of a text-to-image model that is given a picture with each prompt."""

    asking = "sample i has edit i mod C, the same picture with the empty prompt as negative"

    def __init__(self, model: TextToImage, edits: Sequence[Edit]) -> None:
        super().__init__(model)
        for edit in edits:
            model.prompts.rows(edit.prompt)
        self.edits = tuple(edits)

    @property
    def every(self) -> tuple[Edit, ...]:
        return self.edits

    def conditions(self, text: str | None) -> list[Edit]:
        """The edits with the prompts in `text`, separated by commas; None: the first ten."""
        if text is None:
            return list(self.edits[:EXAMPLES])
        known = {edit.prompt: edit for edit in self.edits}
        asked = [" ".join(words_of(each)) for each in text.split(",")]
        for prompt in asked:
            if prompt not in known:
                raise ValueError(f"there is no picture for '{prompt}'; there are some for {', '.join(known)}"[:500])
        return [known[prompt] for prompt in asked]

    def run(self, conditions: Sequence[Edit], *, noise: Tensor, sigmas: Tensor, cfg: float, solver: str) -> FluxRun:
        references = torch.stack([edit.reference for edit in conditions]).to(noise)
        prompts = [edit.prompt for edit in conditions]
        return FluxRun(
            self.model, prompts, noise=noise, sigmas=sigmas, cfg=cfg, solver=solver, references=(references,)
        )


def read_edits(folder: str | Path, side: int) -> list[Edit]:
    """The pictures of a folder, scaled to `side`, each named by its prompt: twitter-panda-face.png.

    ValueError, which names the folder or file, if there are none or one cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{folder}: it has no pictures ({', '.join(SUFFIXES)}), each named by its prompt")
    return [Edit(" ".join(words_of(file.stem)), _picture(file, side)) for file in files]


def _picture(file: Path, side: int) -> Tensor:
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BOX))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: it cannot be read as a picture ({type(error).__name__}: {error})") from None
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1
