"""Polynomials in a run's time: the weights by which values at some times give a value at another."""

from __future__ import annotations

from collections.abc import Sequence


def lagrange_weights(nodes: Sequence[float], tau: float) -> list[float]:
    """Lagrange's weights w, with p(tau) = sum_k w_k p(nodes_k) for every polynomial p of degree < len(nodes)."""
    weights = []
    for node in nodes:
        weight = 1.0
        for other in nodes:
            if other != node:
                weight *= (tau - other) / (node - other)
        weights.append(weight)
    return weights
