"""Sampling of a text-to-image flow model: Euler's method from noise (t = 1) to a picture (t = 0), under guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .model import Flux
from .text_to_image import TextToImage

Velocity = Callable[[Tensor, Tensor], Tensor]   # (x, t) -> dx/dt


def flow_times(steps: int, shift: float = 3.0) -> Tensor:
    """(steps + 1,) times from 1 to 0: equal steps s, moved towards noise by t = shift s / (1 + (shift - 1) s) (arXiv 2403.03206, equation 23)."""
    s = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return (shift * s / (1 + (shift - 1) * s)).float()


def guided_velocity(
    network: Flux, positive: tuple[Tensor, Tensor], negative: tuple[Tensor, Tensor], guidance: float,
    references: Sequence[Tensor] = (), transformer_options: dict | None = None,
) -> Velocity:
    """The velocity under classifier-free guidance (arXiv 2207.12598): negative + guidance (positive - negative).

    positive, negative: text tokens (B, M, C) and pooled text (B, C). Rows of a call: the positive prompts' first, then,
    unless guidance is 1, the negative ones'.
    """
    copies = 1 if guidance == 1.0 else 2
    context, y = (torch.cat([kind, *[other] * (copies - 1)]) for kind, other in zip(positive, negative))
    given = [picture.repeat(copies, 1, 1, 1).to(network.dtype) for picture in references]

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        rows = x.to(network.dtype).repeat(copies, 1, 1, 1)
        v = network(rows, t.to(x.device).expand(len(rows)), context, y, given, transformer_options).to(x.dtype)
        if copies == 1:
            return v
        towards, away = v.chunk(2)
        return away + guidance * (towards - away)

    return velocity


def sample_euler(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    for t, following in zip(times[:-1], times[1:]):
        x = x + (following - t) * velocity(x, t)
    return x


@torch.no_grad()
def sample_flow(
    model: TextToImage, prompts: Sequence[str], *, noise: Tensor, steps: int = 20, shift: float = 3.0, guidance: float = 3.5,
    references: Sequence[Tensor] = (),
) -> Tensor:
    """Pictures (B, C, H, W) of `prompts` from noise of that shape; the empty prompt is the negative one."""
    positive, negative = model.prompts.encode(prompts), model.prompts.encode([""] * len(prompts))
    return sample_euler(guided_velocity(model.network, positive, negative, guidance, references), noise, flow_times(steps, shift))


def unit_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Noise (B, C, H, W) of unit variance, drawn sample by sample so that a sample does not depend on its batch."""
    return torch.stack([torch.randn(shape[1:], generator=torch.Generator().manual_seed(seed + row)) for row in range(shape[0])])
