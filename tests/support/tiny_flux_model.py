"""A text-to-image model of a few thousand weights, all of them random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tokencache_core.flux.config import FluxConfig
from tokencache_core.flux.model import Flux
from tokencache_core.flux.prompts import PromptTable
from tokencache_core.flux.run import FluxRun
from tokencache_core.flux.sampling import flow_times
from tokencache_core.flux.text_to_image import TextToImage
from tokencache_core.sampling.samplers import starting_noise

WORDS = ("google", "twitter", "red", "green", "cat", "dog")
EXAMPLES = ("red cat", "green cat", "red dog", "green dog", "google dog")


def tiny_config(**changes: object) -> FluxConfig:
    return FluxConfig(
        **{
            "hidden_size": 64,
            "num_heads": 2,
            "depth": 2,
            "depth_single_blocks": 2,
            "context_in_dim": 24,
            "vec_in_dim": 24,
            "axes_dim": (8, 12, 12),
            "input_size": 16,
            **changes,
        }
    )


def tiny_text_to_image(**changes: object) -> TextToImage:
    """Weights under which every block's update is a good part of its input."""
    model = TextToImage(Flux(tiny_config(**changes)), PromptTable(WORDS, 24, length=4, examples=EXAMPLES))
    model.initialise()
    random = torch.Generator().manual_seed(0)
    for name, tensor in model.network.named_parameters():
        if "_norm.weight" not in name:
            tensor.data = torch.randn(tensor.shape, generator=random) * 0.12
    return model.eval().requires_grad_(False)


def tiny_run(
    model: TextToImage,
    prompts: Sequence[str],
    *,
    steps: int = 2,
    seed: int = 0,
    cfg: float = 3.5,
    solver: str = "ddim",
    references: Sequence[Tensor] = (),
) -> FluxRun:
    noise = starting_noise((len(prompts), 3, 16, 16), seed, torch.zeros(()))
    times = flow_times(steps, 3.0)
    return FluxRun(model, prompts, noise=noise, sigmas=times, cfg=cfg, solver=solver, references=references)


def draw(model: TextToImage, *prompts: str, seed: int = 0, references: Sequence[Tensor] = ()) -> Tensor:
    """Pictures (B, 3, 16, 16) after two steps."""
    return tiny_run(model, prompts, seed=seed, references=references).sample()
