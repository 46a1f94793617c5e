"""Inputs and weights for networks of Open-Sora-Plan, the same on any machine, so that numbers of the release's own code
can be compared with.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def values(shape: torch.Size | tuple[int, ...], number: int) -> Tensor:
    """Numbers in [-1, 1] that look random."""
    index = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (((index * 12.9898 + number * 78.233).sin() * 43758.5453) % 1 * 2 - 1).float().reshape(shape)


def weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of these names and shapes under which activations keep their size."""
    filled = {}
    for number, key in enumerate(sorted(state_dict)):
        tensor = state_dict[key]
        value = values(tensor.shape, number)
        if tensor.ndim > 1:
            filled[key] = value * (3 / tensor[0].numel()) ** 0.5
        else:
            filled[key] = 1 + 0.2 * value if "norm" in key and key.endswith("weight") else 0.3 * value
    return filled
