"""The optimiser of the reference trainings: torch's Muon, in a precision of one's choice."""

from __future__ import annotations

import torch
from torch import Tensor

from reference.muon import Muon, orthogonal


def stepped(optimizer: torch.optim.Optimizer, weights: list[Tensor]) -> list[Tensor]:
    """The weights after five steps with drawn gradients."""
    random = torch.Generator().manual_seed(1)
    for _ in range(5):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=random)
        optimizer.step()
    return weights


def weights() -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random).requires_grad_() for shape in ((20, 50), (50, 20), (30, 30))]


def test_in_bfloat16_it_is_torchs_own():
    ours, theirs = weights(), weights()
    stepped(Muon(ours, 1e-3, dtype=torch.bfloat16), ours)
    stepped(torch.optim.Muon(theirs, 1e-3, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"), theirs)
    for our, their, first in zip(ours, theirs, weights(), strict=True):
        assert torch.equal(our, their) and not torch.equal(our, first)


def test_singular_values_come_near_to_one():
    wide = weights()[0].detach()
    assert wide.svd().S.max() > 5
    for matrix in (wide, wide.T):
        assert matrix.shape == orthogonal(matrix).shape
        assert ((orthogonal(matrix).svd().S - 1).abs() < 0.4).all()
