"""What one whole run of a model tells about all cached ones: how its directions resemble each other.

In a step x moves by (sigma' - sigma) d, with d = (x - clean) / sigma. A cached run forecasts the d of its P-steps from those of its I-steps,
so that all its errors are sums of the whole run's directions, and the size of any such sum follows from their inner products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .sampling import Denoise

SAME_SIGMA = 1e-4     # relative: sigmas nearer than that are one


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Of one whole run. sigmas: (steps + 1), as its sampler has them. taus: (steps,), their noise times, in which forecasts are made.

    products: (B, steps, steps) float64, the mean over a sample's elements of the product of two steps' directions.
    """

    sigmas: tuple[float, ...]
    taus: tuple[float, ...]
    products: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.taus)

    @property
    def moves(self) -> np.ndarray:
        """(steps,): how far each step takes sigma."""
        return np.diff(np.asarray(self.sigmas))


class RunRecorder:
    """Keeps the directions of a run as it goes, on the CPU. sigmas: (steps + 1), falling."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.sigmas = tuple(map(float, sigmas))
        self.directions: dict[int, Tensor] = {}     # (B, elements) of each step

    def around(self, denoise: Denoise) -> Denoise:
        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            clean = denoise(x, sigma)
            self.saw(x, clean, float(sigma))
            return clean
        return watched

    def saw(self, x: Tensor, clean: Tensor, sigma: float) -> None:
        """An evaluation at x (B, ...), which predicted `clean`. Those between the run's steps teach nothing."""
        step = min(range(len(self.sigmas) - 1), key=lambda step: abs(self.sigmas[step] - sigma))
        if abs(self.sigmas[step] - sigma) <= SAME_SIGMA * sigma and step not in self.directions:
            self.directions[step] = ((x.detach().float() - clean.detach().float()) / sigma).flatten(1).cpu()

    @property
    def complete(self) -> bool:
        """Whether every step has been seen."""
        return len(self.directions) == len(self.sigmas) - 1

    def record(self, tau: Callable[[float], float]) -> RunRecord:
        """tau: from a sigma to the forecasts' variable. ValueError where the run left a step out, or came to values that are not finite."""
        if not self.complete:
            missing = sorted(set(range(len(self.sigmas) - 1)) - set(self.directions))
            raise ValueError(f"the run did not evaluate the model at its steps {missing}: calibrate with euler")
        directions = torch.stack([self.directions[step] for step in range(len(self.sigmas) - 1)], dim=1)     # (B, steps, elements)
        products = torch.stack([each @ each.T / each.shape[1] for each in directions.unbind()]).double().numpy()
        if not np.isfinite(products).all():
            raise ValueError("the model's predictions were not finite: look at what it draws without TokenCache")
        return RunRecord(self.sigmas, tuple(tau(sigma) for sigma in self.sigmas[:-1]), products)
