"""The record of one full run, from which the errors of all cached runs can be estimated: inner products.

In a step x moves by (sigma' - sigma) d, with d = (x - clean) / sigma. On a P-step the network's input is exact, and
what its blocks add to it is forecast from the I-steps (engine/spans.py, engine/output_forecast.py). So d is wrong by
about the error of a forecast of the added part, d less the input. Of a full run all of these parts are known, the
errors of all cached runs are linear combinations of them, and the size of any combination follows from their inner
products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..sampling.noise_time import noise_ratio
from ..sampling.samplers import Denoise

SAME_SIGMA = 1e-4  # relative difference below which two sigmas are equal
NOISIEST = 160.0  # noise, in units of the signal, above which more noise makes no difference


@dataclass(frozen=True, eq=False)
class RunRecord:
    """The record of one full run.

    taus: (steps,), the noise times of its steps, falling.
    sigmas: (steps + 1,), their sigmas, in the model's own terms, and that at the end of the run.
    scales: (steps,), what x is multiplied by at each step before the network is given it.
    products: (B, steps, steps) float64, the mean over a sample's elements of the product of what the network adds to
        its input in two steps.
    """

    taus: tuple[float, ...]
    sigmas: tuple[float, ...]
    scales: tuple[float, ...]
    products: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.taus)

    @property
    def moves(self) -> np.ndarray:
        """(steps,): the error in x, in units of the signal, that an error of 1 in a step's direction causes."""
        # in a flow model x = (1 - sigma) * clean + sigma * noise, so that its signal is not 1
        signals = [sigma / noise_of(tau) for tau, sigma in zip(self.taus[1:], self.sigmas[1:])]
        return np.diff(self.sigmas) / [*signals, 1.0]


def noise_of(tau: float) -> float:
    """The noise at a noise time, in units of the signal, at most NOISIEST."""
    return min(noise_ratio(tau), NOISIEST)


class RunRecorder:
    """Records what the network adds to its input while a run is sampled, on the CPU.

    sigmas: (steps + 1), falling.
    scale: from a sigma to what x there is multiplied by before the network is given it.
    """

    def __init__(self, sigmas: Sequence[float], scale: Callable[[float], float]) -> None:
        self.sigmas, self.scale = tuple(map(float, sigmas)), scale
        self.added: dict[int, Tensor] = {}  # (B, elements) of each step

    def around(self, denoise: Denoise) -> Denoise:
        """The same denoiser, with its evaluations recorded."""

        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            clean = denoise(x, sigma)
            self.saw(x, clean, float(sigma))
            return clean

        return watched

    def saw(self, x: Tensor, clean: Tensor, sigma: float) -> None:
        """Record an evaluation at x (B, ...) that predicted `clean`, unless it lies between the run's steps."""
        step = min(range(len(self.sigmas) - 1), key=lambda step: abs(self.sigmas[step] - sigma))
        if abs(self.sigmas[step] - sigma) <= SAME_SIGMA * sigma and step not in self.added:
            x, clean = x.detach().float(), clean.detach().float()
            self.added[step] = ((x - clean) / sigma - self.scale(sigma) * x).flatten(1).cpu()

    @property
    def complete(self) -> bool:
        """Whether every step has been recorded."""
        return len(self.added) == len(self.sigmas) - 1

    def record(self, tau: Callable[[float], float]) -> RunRecord:
        """The finished record. ValueError if the run skipped a step, or if its values are not finite.

        tau: from the run's sigmas to noise times.
        """
        steps = range(len(self.sigmas) - 1)
        if not self.complete:
            raise ValueError(
                f"the run did not evaluate the model at its steps {sorted(set(steps) - set(self.added))}: "
                "calibrate with euler"
            )
        added = torch.stack([self.added[step] for step in steps], dim=1)  # (B, steps, elements)
        products = torch.stack([each @ each.T / each.shape[1] for each in added.double()]).numpy()
        if not np.isfinite(products).all():
            raise ValueError("the model's predictions were not finite: check its pictures without TokenCache")
        noisy = self.sigmas[:-1]
        return RunRecord(tuple(map(tau, noisy)), self.sigmas, tuple(map(self.scale, noisy)), products)
