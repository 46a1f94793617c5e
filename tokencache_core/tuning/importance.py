"""How important each time is: what a P-step there would get wrong, measured on full runs of the model itself.

At every step the clean x that the model predicts is compared with its own forecast from the steps before (the
polynomial itself, `reach` 1). An error that grows with the (m + 1)-th power of the gap, as a forecast of order m has
it, is the same in every gap if I-steps are as dense as its (m + 1)-th root (equidistribution; de Boor 1973), so that
root is the importance, and I-steps go to equal percentiles of its cumulative sum (TokenCache, arXiv 2409.18523, section
3, where the scores of a predictor are summed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..predictor.trained_cache import ImportanceCurve
from ..runs.run import Run
from ..sampling.polynomial import lagrange_weights
from ..sampling.samplers import Denoise


def variance_exploding(sigma: float) -> float:
    """What noise added as clean + sigma * noise makes of a clean x's unit, once the whole is scaled to unit
    variance.
    """
    return (1 + sigma**2) ** -0.5


def calibrate(
    runs: Iterable[Run], tau: Callable[[float], float], order: int, scale: Callable[[float], float] = variance_exploding
) -> ImportanceCurve:
    """Sample `runs` whole; importance at each of their steps, for forecasts of `order`.

    scale: the size of x in the units in which errors are compared, from sigma; 1 where the model's own x keeps its size
    (flow matching). The first order + 1 steps have nothing to be forecast from and take the importance of the next.
    """
    total: Tensor | None = None
    samples = 0
    for run in runs:
        errors = _forecast_errors(run, tau, order, scale)
        total = errors if total is None else total + errors
        samples += run.images
    if total is None:
        raise ValueError("calibration needs at least one sample")
    taus = tuple(tau(sigma) for sigma in run.sigmas[:-1].tolist())
    root = (total / samples).sqrt() ** (1 / (order + 1))
    importance = torch.cat([root[:1].expand(order + 1), root])
    return ImportanceCurve(taus, tuple(importance.tolist()), samples)


def _forecast_errors(run: Run, tau: Callable[[float], float], order: int, scale: Callable[[float], float]) -> Tensor:
    """(steps - order - 1,) squared error in x of each step, summed over the run's samples."""
    sigmas = run.sigmas.tolist()
    if len(sigmas) < order + 3:
        raise ValueError(
            f"{len(sigmas) - 1} steps are too few to calibrate a forecast of order {order}: take {order + 2} or more"
        )
    last: list[tuple[float, Tensor]] = []  # (tau, predicted clean x) of the steps before
    errors: list[Tensor] = []

    def around(denoise: Denoise) -> Denoise:
        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            clean, here = denoise(x, sigma), tau(float(sigma))
            if len(last) == order + 1:
                weights = lagrange_weights([node for node, _ in last], here)
                forecast = sum(weight * kept for weight, (_, kept) in zip(weights, last))
                step = len(errors) + order + 1
                moved = (1 - sigmas[step + 1] / sigmas[step]) * scale(sigmas[step + 1])
                errors.append((moved * (clean - forecast)).square().mean(dim=tuple(range(1, x.ndim))).sum())
                last.pop(0)
            last.append((here, clean))
            return clean

        return watched

    with torch.no_grad():
        run.sample(around)
    return torch.stack(errors).double().cpu()
