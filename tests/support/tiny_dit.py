"""DiTs small enough to sample in a test, with random weights that make every part of them matter."""

from __future__ import annotations

from pathlib import Path

import torch

from tokencache_core.dit.checkpoint import save_dit
from tokencache_core.dit.model import DiT, DiTConfig


def tiny_dit(seed: int = 0, **shape: object) -> DiT:
    """Width 64, 3 blocks, 2 heads, 4 channels of 8x8, 5 classes, unless `shape` says otherwise."""
    config = DiTConfig(**{"width": 64, "depth": 3, "heads": 2, "input_size": 8, "num_classes": 5, **shape})
    model = DiT(config)
    model.initialise()
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if name != "pos_embed":
            spread = 1.0 if "embedding_table" in name else 0.4 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 0.1
            weight.data = torch.randn(weight.shape, generator=generator) * spread
    return model.eval()


def tiny_dit_file(path: Path, metadata: dict[str, str] | None = None, **shape: object) -> Path:
    save_dit(tiny_dit(**shape), path, metadata)
    return path


def random_input(model: DiT, batch: int = 2, size: tuple[int, int] | None = None) -> tuple[torch.Tensor, ...]:
    """x (B, C, H, W), timesteps (B,) and labels (B,)."""
    generator = torch.Generator().manual_seed(1)
    config = model.config
    size = size or (config.input_size, config.input_size)
    x = torch.randn(batch, config.in_channels, *size, generator=generator)
    t = torch.randint(1000, (batch,), generator=generator).float()
    y = torch.randint(config.num_classes + 1, (batch,), generator=generator)
    return x, t, y
