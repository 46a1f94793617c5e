"""A text-to-image model of a few thousand weights, all of them random."""

from __future__ import annotations

import torch

from tokencache_core.flux.config import FluxConfig
from tokencache_core.flux.model import Flux
from tokencache_core.flux.prompts import PromptTable
from tokencache_core.flux.text_to_image import TextToImage

WORDS = ("google", "twitter", "red", "green", "cat", "dog")


def tiny_config(**changes: object) -> FluxConfig:
    return FluxConfig(**{
        "hidden_size": 64, "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "context_in_dim": 24, "vec_in_dim": 24,
        "axes_dim": (8, 12, 12), "input_size": 16, **changes,
    })


def tiny_text_to_image(**changes: object) -> TextToImage:
    """Weights under which every block's update is a good part of its input."""
    model = TextToImage(Flux(tiny_config(**changes)), PromptTable(WORDS, 24, length=4))
    model.initialise()
    random = torch.Generator().manual_seed(0)
    for name, tensor in model.network.named_parameters():
        if "_norm.weight" not in name:
            tensor.data = torch.randn(tensor.shape, generator=random) * 0.12
    return model.eval().requires_grad_(False)
