"""What Frechet distances are measured on: a reference model, the prompts of its samples, and pictures of its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokencache_core.cli.options import sampled_model
from tokencache_core.dit.sampled import SampledDiT
from tokencache_core.flux.sampled import SampledFlux
from tokencache_core.runs.sampled_model import SampledModel, kept_apart

from .classifier import as_classified
from .data import load_emoji
from .emoji_pairs import load_pairs
from .flow_batches import Batches, evenly_asked

DATA = 8192  # pictures


@dataclass(frozen=True)
class Subject:
    """A reference model, and samples to ask it for.

    conditions: one for each sample; the first ones are the same for any number of them.
    held_out: (samples,) bool: those whose condition no training of a predictor used.
    pictures: (DATA, 3, 32, 32) in [-1, 1], drawn as in the model's training.
    """

    model: SampledModel
    conditions: Sequence[Any]
    held_out: Tensor
    pictures: Tensor


def subject_of(file: Path, samples: int, batch: int, device: torch.device) -> Subject:
    """ValueError for a model that was not trained on emoji pictures.

    samples: a multiple of `batch`.
    """
    model = sampled_model(str(file), device, None)
    if isinstance(model, SampledDiT):
        return _classes(model, samples, batch)
    if isinstance(model, SampledFlux):
        return _prompts(model, samples)
    raise ValueError(f"{file}: only the reference DiT and flow model are known here, which draw emoji pictures")


def _classes(model: SampledDiT, samples: int, batch: int) -> Subject:
    data, drawn = load_emoji(), torch.Generator().manual_seed(0)
    pictures = data.batch(DATA, drawn)[0]
    labels = torch.cat([data.batch(batch, drawn)[1][:, 2] for _ in range(samples // batch)])
    held_out = torch.isin(labels, torch.tensor(kept_apart(model.every)[1]))
    return Subject(model, labels.tolist(), held_out, pictures)


def _prompts(model: SampledFlux, samples: int) -> Subject:
    pairs, drawn = load_pairs(), torch.Generator().manual_seed(0)
    batches = Batches(pairs, model.prompts)
    parts = [batches.draw(256, False, drawn).pictures for _ in range(DATA // 256)]
    pictures = torch.cat([as_classified(part) for part in parts])
    return Subject(model, evenly_asked(pairs, samples), torch.zeros(samples, dtype=torch.bool), pictures)
