"""Simulation of any cached run of a model, from the record of a whole run, in a fraction of a millisecond.

The error of a P-step is the difference between the forecast of its direction and the direction itself, both known from
the record (schedules/run_record.py). An I-step corrects a share of it (engine/corrector.py). What is not simulated is
how the network responds to errors in x, and so how much of an error made at one sigma is left at the end of the run:
that differs from model to model. So errors are summed several times, each time fading above another sigma
(`DAMPINGS`), and places are judged by the mean over these sums, in dB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..sampling.polynomial import lagrange_weights
from .run_record import RunRecord, noise_of

DAMPINGS = (1.0, 4.0)  # an error made at sigma counts 1 / sqrt(1 + (sigma / damping)^2)
SMALLEST = 1e-12  # lower limit of squared errors, for their logarithm


class RunSimulator:
    """A simulator of cached runs.

    record: of a whole run.
    order, reach, corrector: of the cached runs, as in `CacheSettings`.
    dampings: sigmas above which errors fade.
    """

    def __init__(
        self, record: RunRecord, *, order: int, reach: float, corrector: float, dampings: Sequence[float] = DAMPINGS
    ) -> None:
        self.record, self.order, self.reach, self.corrector = record, order, reach, corrector
        noise = np.array([noise_of(tau) for tau in record.taus])
        self._moves = np.stack([faded(record.moves, noise, damping) for damping in dampings])  # (D, steps)
        self._windows: dict[tuple[tuple[int, ...], int], np.ndarray] = {}

    def error_db(self, places: Sequence[int]) -> float:
        """The error at the end of a run with these I-steps, in dB; useful only for comparing places."""
        return float(self.errors_db([places])[0])

    def errors_db(self, candidates: Sequence[Sequence[int]]) -> np.ndarray:
        """(candidates,): the errors in dB, means over samples and dampings. candidates: places, each rising from 0."""
        errors = np.stack([self._error(tuple(places)) for places in candidates])  # (candidates, D, steps)
        squares = np.einsum("bcdj,cdj->bcd", errors @ self.record.products[:, None], errors)
        return decibels(squares).mean(axis=(0, 2))

    def _error(self, places: tuple[int, ...]) -> np.ndarray:
        """(D, steps): the error at the end of the run for each damping, as coefficients of the record's directions."""
        total = np.zeros_like(self._moves)
        for index, (start, end) in enumerate(zip(places, (*places[1:], self.record.steps))):
            if end > start + 1:
                total += self._window(places[max(0, index - self.order) : index + 1], end)
        return total

    def _window(self, nodes: tuple[int, ...], end: int) -> np.ndarray:
        """(D, steps): the error of the P-steps between nodes[-1] and `end`. nodes: the I-steps in their forecasts."""
        if (nodes, end) not in self._windows:
            taus, steps, last = self.record.taus, self.record.steps, nodes[-1]
            total = np.zeros_like(self._moves)
            for step in range(last + 1, end):
                forecast = _through(nodes, taus, taus[last] + self.reach * (taus[step] - taus[last]), steps)
                error = forecast - np.eye(steps)[step]
                if end < steps:
                    error += self.corrector * (_through((*nodes, end), taus, taus[step], steps) - forecast)
                total += self._moves[:, step, None] * error
            self._windows[nodes, end] = total
        return self._windows[nodes, end]


def faded(moves: np.ndarray | float, noise: np.ndarray | float, damping: np.ndarray | float) -> np.ndarray:
    """The part of `moves` (errors, in units of the signal) that is left at the end of a run if made at this noise."""
    return moves / np.sqrt(1 + (noise / damping) ** 2)


def decibels(squares: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(squares, SMALLEST))


def _through(nodes: Sequence[int], taus: Sequence[float], tau: float, steps: int) -> np.ndarray:
    """(steps,): the weight of each step's direction in the polynomial through `nodes`, evaluated at `tau`."""
    weights = np.zeros(steps)
    weights[list(nodes)] = lagrange_weights([taus[node] for node in nodes], tau)
    return weights
