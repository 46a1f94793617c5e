"""Polynomials in a run's time: interpolation weights, and weighted sums of tensors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def lagrange_weights(nodes: Sequence[float], tau: float) -> list[float]:
    """Lagrange's weights w, with p(tau) = sum_k w_k p(nodes_k) for every polynomial p of degree < len(nodes)."""
    weights: list[float] = []
    for node in nodes:
        weight = 1.0
        for other in nodes:
            if other != node:
                weight *= (tau - other) / (node - other)
        weights.append(weight)
    return weights


def weighted_sum(weights: Sequence[float | Tensor], values: Sequence[Tensor]) -> Tensor:
    """sum_k w_k values_k of at least one value, a new tensor of their shape."""
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:]):
        total = total + weight * value
    return total
