"""Frechet distance between two sets of pictures, of Gaussians fitted to a network's features of them.

With Inception's features it is the FID of Heusel et al. 2017 (arXiv 1706.08500). Here the features may be any
network's; figures by different networks, or from different numbers of pictures, do not compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DRAWS = 200  # of a bootstrap


@dataclass(frozen=True)
class Gaussian:
    """What is known of features of width D: mean (D,) and covariance (D, D), both float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """Fitted to features (N, D)."""
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"at least 2 features of one width are taken together, not {tuple(features.shape)}")
        features = features.double()
        return cls(features.mean(dim=0), features.T.cov())


def frechet_distance(features: Tensor, known: Gaussian) -> float:
    """Of features (N, D) from what is `known`: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).

    With C = A^T A, C C' has the eigenvalues of A C' A^T. A is (N, D), the centred features by sqrt(N - 1), where these
    are fewer than D, and else a (D, D) root of C; so no root of a matrix that is not symmetric is ever taken.
    """
    if features.ndim != 2 or len(features) < 2 or features.shape[1] != len(known.mean):
        raise ValueError(f"at least 2 features of width {len(known.mean)} are compared, not {tuple(features.shape)}")
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
    """A figure with the bounds between which 95 % of its bootstrap values lie."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class Bootstrap:
    """A distance, and those of samples drawn from its own with replacement (draws,); equally many samples are drawn
    alike.
    """

    value: float
    drawn: Tensor

    @classmethod
    def of(cls, features: Tensor, known: Gaussian, draws: int = DRAWS, seed: int = 0) -> Bootstrap:
        generator, count = torch.Generator().manual_seed(seed), len(features)
        drawn = [
            frechet_distance(features[torch.randint(count, (count,), generator=generator)], known) for _ in range(draws)
        ]
        return cls(frechet_distance(features, known), torch.tensor(drawn, dtype=torch.float64))

    def times(self, other: Bootstrap) -> Interval:
        """This distance as a multiple of another, of the same seeds without a cache: what both have in common cancels,
        draw by draw.
        """
        low, high = (self.drawn / other.drawn).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return Interval(self.value / other.value, low, high)
