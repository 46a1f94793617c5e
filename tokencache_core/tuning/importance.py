"""Measures how important an I-step is at each time: the error of a P-step there, from full runs of the model itself.

At every step the clean x that the model predicts is compared with its own forecast from the steps before (the
polynomial itself, `reach` 1). The error of a forecast of order m grows with the (m + 1)-th power of the gap. It is the
same in every gap if I-steps are as dense as the (m + 1)-th root of the measured error (equidistribution; de Boor 1973).
So that root is the importance, and I-steps are placed at equal percentiles of its cumulative sum (TokenCache, arXiv
2409.18523, section 3, where the scores of a predictor are summed).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor

from ..predictor.trained_cache import ImportanceCurve
from ..runs.run import Run
from ..sampling.polynomial import lagrange_weights
from ..sampling.samplers import Denoise


def calibrate(runs: Iterable[Run], order: int) -> ImportanceCurve:
    """The importance at each step of `runs`, which are sampled in full; ValueError without any run.

    The first order + 1 steps have nothing to be forecast from and take the importance of the next.

    runs: of the same sigmas; errors are compared where x has the scale that their network is given.
    order: of the forecasts.
    """
    total: Tensor | None = None
    samples = 0
    for run in runs:
        errors = _forecast_errors(run, order)
        total = errors if total is None else total + errors
        samples += run.images
    if total is None:
        raise ValueError("calibration needs at least one sample")
    taus = tuple(run.noise_time(sigma) for sigma in run.sigmas[:-1].tolist())
    root = (total / samples).sqrt() ** (1 / (order + 1))
    importance = torch.cat([root[:1].expand(order + 1), root])
    return ImportanceCurve(taus, tuple(importance.tolist()), samples)


def _forecast_errors(run: Run, order: int) -> Tensor:
    """The squared error in x of each step (steps - order - 1,), summed over the run's samples."""
    sigmas = run.sigmas.tolist()
    if len(sigmas) < order + 3:
        raise ValueError(
            f"{len(sigmas) - 1} steps are too few to calibrate a forecast of order {order}: use {order + 2} or more"
        )
    last: list[tuple[float, Tensor]] = []  # (tau, predicted clean x) of the steps before
    errors: list[Tensor] = []

    def around(denoise: Denoise) -> Denoise:
        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            clean, here = denoise(x, sigma), run.noise_time(float(sigma))
            if len(last) == order + 1:
                weights = lagrange_weights([node for node, _ in last], here)
                forecast = reduce(torch.add, [weight * kept for weight, (_, kept) in zip(weights, last)])
                step = len(errors) + order + 1
                moved = (1 - sigmas[step + 1] / sigmas[step]) * run.input_scale(sigmas[step + 1])
                errors.append((moved * (clean - forecast)).square().mean(dim=tuple(range(1, x.ndim))).sum())
                last.pop(0)
            last.append((here, clean))
            return clean

        return watched

    with torch.no_grad():
        run.sample(around)
    return torch.stack(errors).double().cpu()
