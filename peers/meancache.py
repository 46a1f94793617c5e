"""MeanCache: average velocities over skipped steps, at places found by a shortest path (Gao et al., arXiv 2601.19961),
implemented from the paper.

A computed step's velocity v, and that of the computed step before it, give the velocity's change with time; with it, v
is moved to the middle of the interval up to the next computed step. This estimate of the average velocity is used over
the whole interval. Which steps are computed comes from one full run: an interval costs what its estimate would be
wrong there, and of all choices of so many steps the one with the least sum of costs to the power of PEAK is taken, so
that no single interval is much worse than the others.

Choices made here: the change of velocity is taken between the last two computed steps, so that an interval's cost
depends on the step before it, too; the full run has other noise than the benchmark's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tokencache_core.bench.workload import SampledWorkload

from .cached_run import kept_per_model
from .peer import ANY_MODEL, Peer, Settings

PEAK = 3.0
Denoise = Callable[[Tensor, Tensor], Tensor]


def average_weight(before: float, now: float, end: float) -> float:
    """How far the average velocity from time `now` to `end` lies beyond the velocity at `now`, in units of its change
    since the computed time `before`.
    """
    return 0.5 * (end - now) / (now - before)


@kept_per_model
def interval_costs(workload: SampledWorkload) -> np.ndarray:
    """(steps + 1, steps + 1, steps + 1): the cost of the interval [now, end) after a computed step `before`, by their
    numbers; a first step has itself for `before`. Infinite where there is no such interval.
    """
    sigmas, products = _whole_run(workload)
    steps = len(sigmas) - 1
    moves = np.diff(sigmas)
    costs = np.full((steps + 1,) * 3, np.inf)
    for now, end in itertools.combinations(range(steps + 1), 2):
        average = np.zeros(steps)
        average[now:end] = moves[now:end] / moves[now:end].sum()
        for before in range(now) if now else (0,):
            estimate = np.zeros(steps)
            estimate[now] = 1.0
            if now:
                weight = average_weight(sigmas[before], sigmas[now], sigmas[end])
                estimate[[now, before]] += weight, -weight
            error = (estimate - average) * abs(sigmas[end] - sigmas[now])
            costs[before, now, end] = max(0.0, error @ products @ error) ** 0.5
    return costs


@torch.no_grad()
def _whole_run(workload: SampledWorkload) -> tuple[np.ndarray, np.ndarray]:
    """A run's sigmas (steps + 1,), and the inner products (steps, steps) of its velocities."""
    sigmas, velocities = workload.sigmas(), list[Tensor]()

    def around(denoise: Denoise) -> Denoise:
        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            clean = denoise(x, sigma)
            velocities.append(((x - clean) / sigma).flatten().double().cpu())
            return clean

        return watched

    workload.run(sigmas, "ddim").sample(around)
    found = torch.stack(velocities)
    return sigmas.double().numpy(), (found @ found.T / found.shape[1]).numpy()


def computed_steps(costs: np.ndarray, count: int) -> tuple[int, ...]:
    """The `count` steps with the least sum of the intervals' costs to the power of PEAK, the first one included."""
    steps = len(costs) - 1
    costs = costs**PEAK
    # best[before, now]: the least sum of a path whose last two computed steps they are; its last interval is still open
    best = np.full((steps, steps), np.inf)
    best[0, 0] = 0.0
    origins: list[np.ndarray] = []
    for _ in range(count - 1):
        through = best[:, :, None] + costs[:steps, :steps, :steps]  # (before, now, next)
        origins.append(through.argmin(axis=0))
        best = through.min(axis=0)
    ends = best + costs[:steps, :steps, steps]
    before, now = np.unravel_index(int(ends.argmin()), ends.shape)
    places = [int(now), int(before)]
    for origin in reversed(origins):
        places.append(int(origin[places[-1], places[-2]]))
    return tuple(sorted(set(places)))


def run(workload: SampledWorkload, settings: Settings) -> tuple[Tensor, float]:
    """The pictures (B, C, H, W), and the share of the steps that were computed."""
    steps = workload.protocol.steps
    count = max(2, round(settings["share"] * steps))
    places = tuple(range(steps)) if count == steps else computed_steps(interval_costs(workload), count)
    sigmas = workload.sigmas()
    following = dict(zip(sigmas.tolist(), sigmas.tolist()[1:]))
    nodes = [*sigmas[list(places)].tolist(), float(sigmas[-1])]
    known = dict[float, Tensor]()  # velocities by sigma, of computed steps
    average = torch.zeros(())  # of the present interval

    def around(denoise: Denoise) -> Denoise:
        def cached(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal average
            now = float(sigma)
            if now in nodes:
                clean, index = denoise(x, sigma), nodes.index(now)
                average = known[now] = (x - clean) / sigma
                if nodes[index + 1] == following[now]:
                    return clean
                if index:
                    before = nodes[index - 1]
                    average = average + average_weight(before, now, nodes[index + 1]) * (average - known[before])
            return x - sigma * average

        return cached

    with torch.no_grad():
        pictures = workload.run(sigmas, workload.protocol.solver).sample(around)
    return pictures, len(places) / steps


SHARES = tuple(round(1 - 0.025 * i, 3) for i in range(37))
PEERS = (Peer("meancache", "arXiv 2601.19961", run, knob="share", knobs=SHARES, models=ANY_MODEL),)
