"""Rotary position embedding over several axes (Su et al., RoFormer, arXiv 2104.09864, equation 15)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def rotations(positions: Tensor, axes_dim: Sequence[int], theta: float) -> Tensor:
    """The rotation of each feature pair at positions (B, N, axes): (B, 1, N, d/2, 2, 2) in float32, for all heads
    alike.

    An axis turns its own share of the features, the pair i of n by its position / theta^(2i/n).
    """
    exact = positions.cpu().double()  # some devices have no float64
    angles = torch.cat([_angles(exact[..., axis], dim, theta) for axis, dim in enumerate(axes_dim)], dim=-1)
    cos, sin = angles.cos(), angles.sin()
    matrix = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    return matrix.float().unsqueeze(1).to(positions.device)


def rotate(x: Tensor, matrix: Tensor) -> Tensor:
    """x (B, H, N, d), its neighbouring features turned pair by pair; computed in float32."""
    pairs = x.float().unflatten(-1, (-1, 1, 2))  # (B, H, N, d/2, 1, 2)
    turned = matrix[..., 0] * pairs[..., 0] + matrix[..., 1] * pairs[..., 1]
    return turned.flatten(-2).to(x.dtype)


def _angles(position: Tensor, dim: int, theta: float) -> Tensor:
    return position[..., None] * theta ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
