"""DiT files of random weights in a folder of the real host's, loaded and labelled by its nodes."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from tiny_dit import tiny_dit_file
from tokencache_pack.nodes.dit import DiTClassLabel, LoadDiT
from torch import Tensor

from tokencache_core.likeness.metrics import psnr

STEPS, CFG = 6, 3.0
SHAPES = {
    "pixels.safetensors": {"in_channels": 3, "learn_sigma": False},
    "latents.safetensors": {"in_channels": 4},
    "ten-classes.safetensors": {"num_classes": 10},
    "sixteen-channels.safetensors": {"in_channels": 16},
}
NAMES = '["cat", "dog", "newt", "owl", "yak"]'


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diffusion_models")
    for name, shape in SHAPES.items():
        tiny_dit_file(folder / name, {"class_names": NAMES} if name == "pixels.safetensors" else None, **shape)
    folder_paths.add_model_folder_path("diffusion_models", str(folder))
    return folder


def load(name: str = "pixels.safetensors") -> ModelPatcher:
    return LoadDiT.execute(name).result[0]


def label(model: ModelPatcher, text: str = "") -> list:
    return DiTClassLabel.execute(model, text).result[0]


def noise_for(model: ModelPatcher, batch: int = 2, size: tuple[int, int] = (8, 8)) -> Tensor:
    channels = model.model.diffusion_model.config.in_channels
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(3))


def decibels(a: Tensor, b: Tensor) -> float:
    """Against the range 2 of pictures, though random weights reach far beyond it."""
    return float(psnr(a, b, clamp=False).mean())
