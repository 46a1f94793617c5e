"""A flow's times, from noise (1) to a picture (0), and its velocity under guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .model import Flux

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x, t) -> dx/dt


def flow_times(steps: int, shift: float = 3.0) -> Tensor:
    """(steps + 1,) times from 1 to 0: equal steps s, moved towards noise by t = shift s / (1 + (shift - 1) s) (Esser et
    al., arXiv 2403.03206, equation 23). s is in whole thousandths, as the host's `simple` scheduler takes it.
    """
    s = torch.tensor([*(1 - int(step * 1000 / steps) / 1000 for step in range(steps)), 0.0], dtype=torch.float64)
    return (shift * s / (1 + (shift - 1) * s)).float()


def guided_velocity(
    network: Flux,
    positive: tuple[Tensor, Tensor],
    negative: tuple[Tensor, Tensor],
    guidance: float,
    references: Sequence[Tensor] = (),
    transformer_options: dict | None = None,
    stride: float = 1,
) -> Velocity:
    """The velocity under classifier-free guidance (arXiv 2207.12598): negative + guidance (positive - negative).

    The rows of a network call are those of the positive prompts, followed, unless guidance is 1, by the negative ones'.

    positive, negative: text tokens (B, M, C) and pooled text (B, C).
    references, stride: as in `Flux.forward`.
    """
    copies = 1 if guidance == 1.0 else 2
    context, y = (torch.cat([kind, *[other] * (copies - 1)]) for kind, other in zip(positive, negative))
    given = [picture.repeat(copies, 1, 1, 1).to(network.dtype) for picture in references]

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        rows = x.to(network.dtype).repeat(copies, 1, 1, 1)
        v = network(rows, t.to(x.device).expand(len(rows)), context, y, given, transformer_options, stride)
        if copies == 1:
            return v.to(x.dtype)
        towards, away = v.to(x.dtype).chunk(2)
        return away + guidance * (towards - away)

    return velocity
