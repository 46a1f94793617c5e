"""Scores without training: which tokens a P-step computes when no Cache Predictor is connected.

Picking the tokens with the largest change, or even with the largest true error, loses to picking them at random: the
same ones win every time and the others starve. A useful score therefore grows with the time a token has waited.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_scores(images: int, n_tokens: int, generator: torch.Generator) -> Tensor:
    """(images, N) uniform scores: the control that every other score has to beat."""
    return torch.rand(images, n_tokens, generator=generator)


def round_robin_scores(images: int, n_tokens: int, cursor: int, generator: torch.Generator) -> Tensor:
    """(images, N) scores that take the tokens in turn along a fixed random order, starting at `cursor`."""
    order = torch.randperm(n_tokens, generator=generator)
    waiting = (order - cursor) % n_tokens
    return -waiting.float().expand(images, -1)


def staleness_scores(waited: Tensor, change_rate: Tensor) -> Tensor:
    """(images, N): time waited since the token was last computed x how fast its updates change.

    waited: (images, N) in tau. change_rate: (images, N), update norm per unit of tau. The product estimates how far
    a reused update has drifted; a token just computed scores zero.
    """
    return waited * change_rate
