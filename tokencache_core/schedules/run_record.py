"""What one whole run of a model tells about all cached ones: how its directions resemble each other.

In a step x moves by (sigma' - sigma) d, with d = (x - clean) / sigma. A cached run forecasts the d of its P-steps from
those of its I-steps, so that all its errors are sums of the whole run's directions, and the size of any such sum
follows from their inner products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..sampling.noise_time import noise_ratio
from ..sampling.samplers import Denoise

SAME_SIGMA = 1e-4  # relative: sigmas nearer than that are one
NOISIEST = 160.0  # noise in units of the signal above which more makes no difference


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Of one whole run. taus: (steps,), the noise times of its steps, falling.

    moves: (steps,), what a direction that is wrong by 1 does to x in that step, in units of the signal. products: (B,
    steps, steps) float64, the mean over a sample's elements of the product of two steps' directions.
    """

    taus: tuple[float, ...]
    moves: np.ndarray
    products: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.taus)


def noise_of(tau: float) -> float:
    """Noise in units of the signal at a noise time, NOISIEST at most."""
    return min(noise_ratio(tau), NOISIEST)


class RunRecorder:
    """Keeps the directions of a run as it goes, on the CPU. sigmas: (steps + 1), falling."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.sigmas = tuple(map(float, sigmas))
        self.directions: dict[int, Tensor] = {}  # (B, elements) of each step

    def around(self, denoise: Denoise) -> Denoise:
        """The same denoiser, watched."""

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
        """tau: the noise time of the run's own sigmas. ValueError where the run left a step out, or came to values that
        are not finite.
        """
        steps = range(len(self.sigmas) - 1)
        if not self.complete:
            raise ValueError(
                f"the run did not evaluate the model at its steps {sorted(set(steps) - set(self.directions))}: "
                "calibrate with euler"
            )
        directions = torch.stack([self.directions[step] for step in steps], dim=1)  # (B, steps, elements)
        products = torch.stack([each @ each.T / each.shape[1] for each in directions.double()]).numpy()
        if not np.isfinite(products).all():
            raise ValueError("what the model predicted was not finite: look at what it draws without TokenCache")
        taus = tuple(tau(sigma) for sigma in self.sigmas[:-1])
        # once x is scaled to a signal of 1, as a flow model's x = (1 - sigma) * clean + sigma * noise is not
        scales = [noise_of(then) / sigma for then, sigma in zip(taus[1:], self.sigmas[1:])] + [1.0]
        return RunRecord(taus, np.diff(self.sigmas) * scales, products)
