"""Frechet distance between two sets of pictures, of Gaussians fitted to a network's features of them.

With Inception's features it is the FID of Heusel et al. 2017 (arXiv 1706.08500). Here the features may be any network's;
figures by different networks, or from different numbers of pictures, do not compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds between which 95 % of its bootstrap values lie."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of features a (N, D) and b (M, D)."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"two sets of at least 2 features of one width are compared, not {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = a.double(), b.double()
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T                # C_a^(1/2)
    shared = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()   # tr (C_a C_b)^(1/2)
    return float((a.mean(dim=0) - b.mean(dim=0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * shared)


def relative_distance(features: Tensor, full: Tensor, data: Tensor, draws: int = 200, seed: int = 0) -> Interval:
    """The distance of `features` (N, D) from `data`, as a multiple of that of `full` (N, D), the same seeds without a cache.

    Each of the `draws` takes the same samples of both, so that what both have in common cancels.
    """
    if len(features) != len(full):
        raise ValueError(f"{len(features)} samples cannot be paired with {len(full)}")
    generator = torch.Generator().manual_seed(seed)

    def ratio(index: Tensor) -> float:
        return frechet_distance(features[index], data) / frechet_distance(full[index], data)

    count = len(full)
    ratios = torch.tensor([ratio(torch.randint(count, (count,), generator=generator)) for _ in range(draws)], dtype=torch.float64)
    low, high = ratios.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(ratio(torch.arange(count)), low, high)
