"""The Frechet distance between two sets of pictures: that between Gaussians fitted to their features.

With Inception's features it is the FID of Heusel et al. 2017 (arXiv 1706.08500). Here any network's features may be
used. Distances from different networks, or from different numbers of pictures, cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DRAWS = 200  # number of bootstrap draws


@dataclass(frozen=True)
class Gaussian:
    """Statistics of features of width D: mean (D,) and covariance (D, D), both float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """The Gaussian fitted to features (N, D)."""
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"features must be (N, D) with N of at least 2, not {tuple(features.shape)}")
        features = features.double()
        return cls(features.mean(dim=0), features.T.cov())


def frechet_distance(features: Tensor, known: Gaussian) -> float:
    """The distance of features (N, D) from `known`: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).

    With C = A^T A, C C' has the eigenvalues of A C' A^T. If N <= D, A is (N, D): the centred features divided by
    sqrt(N - 1). Otherwise it is a (D, D) root of C. So only roots of symmetric matrices are ever taken.
    """
    if features.ndim != 2 or len(features) < 2 or features.shape[1] != len(known.mean):
        raise ValueError(f"features must be (N, {len(known.mean)}) with N of at least 2, not {tuple(features.shape)}")
    count, width = features.shape
    features = features.double()
    mean = features.mean(dim=0)
    factor = (features - mean) / (count - 1) ** 0.5
    trace = factor.square().sum()
    if count > width:
        values, vectors = torch.linalg.eigh(factor.T @ factor)
        factor = values.clamp(min=0).sqrt()[:, None] * vectors.T
    shared = torch.linalg.eigvalsh(factor @ known.covariance @ factor.T).clamp(min=0).sqrt().sum()
    return float((mean - known.mean).square().sum() + trace + known.covariance.trace() - 2 * shared)


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class Bootstrap:
    """A distance with its bootstrap distribution.

    value: the distance.
    drawn: (draws,), the distances of samples drawn with replacement. For equal numbers of samples, the draws are equal.
    """

    value: float
    drawn: Tensor

    @classmethod
    def of(cls, features: Tensor, known: Gaussian, draws: int = DRAWS, seed: int = 0) -> Bootstrap:
        """The bootstrap of the distance of features (N, D) from `known`."""
        generator, count = torch.Generator().manual_seed(seed), len(features)
        drawn = [
            frechet_distance(features[torch.randint(count, (count,), generator=generator)], known) for _ in range(draws)
        ]
        return cls(frechet_distance(features, known), torch.tensor(drawn, dtype=torch.float64))

    def times(self, other: Bootstrap) -> Interval:
        """This distance as a multiple of `other`, that of the same seeds without a cache.

        The ratio is taken draw by draw, so that variation common to both cancels.
        """
        low, high = (self.drawn / other.drawn).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return Interval(self.value / other.value, low, high)
