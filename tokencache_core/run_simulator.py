"""Any cached run of a model, simulated from the record of a whole one in a fraction of a millisecond.

The error of a P-step is the difference between the forecast of its direction and the direction itself, both known from the record
(run_record.py); an I-step takes back a share of what it shows to have been wrong (corrector.py). What is not simulated is how the network answers to
where x has strayed. It makes errors fade that were made where the noise is strong (`DAMPING`), and it answers to what went wrong in
one window of P-steps before the next one begins, so that errors of different windows neither add up nor cancel as far as the record has them
do (`TOGETHER`): places that rely on it are good for the samples of the record alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .history import lagrange_weights
from .run_record import RunRecord, noise_of

DAMPING = 3.0       # an error made at sigma counts 1 / sqrt(1 + (sigma / damping)^2)
TOGETHER = 0.9      # share of the squared error that is the square of the sum over windows; the rest is the sum of their squares
SMALLEST = 1e-12    # error of which a logarithm is taken


class RunSimulator:
    """Of runs whose forecasts are of `order`, taken `reach` times as far, and whose corrector takes back the share `corrector`."""

    def __init__(self, record: RunRecord, *, order: int, reach: float, corrector: float, damping: float = DAMPING, together: float = TOGETHER) -> None:
        self.record, self.order, self.reach, self.corrector, self.together = record, order, reach, corrector, together
        self._moves = faded(record.moves, np.array([noise_of(tau) for tau in record.taus]), damping)    # (steps,)
        self._windows: dict[tuple[tuple[int, ...], int], tuple[np.ndarray, np.ndarray]] = {}

    def error_db(self, places: Sequence[int]) -> float:
        """How far a run with these I-steps ends from the whole one: of use to compare places, the less the better."""
        return float(self.errors_db([places])[0])

    def errors_db(self, candidates: Sequence[Sequence[int]]) -> np.ndarray:
        """(candidates,) in dB, the mean over samples; each rises from 0."""
        windows = [self._windows_of(tuple(places)) for places in candidates]
        sums = np.stack([sum((strayed for strayed, _ in each), np.zeros_like(self._moves)) for each in windows])    # (candidates, steps)
        apart = np.stack([sum((squares for _, squares in each), np.zeros(len(self.record.products))) for each in windows], axis=1)
        return decibels(np.einsum("bcj,cj->bc", sums @ self.record.products, sums), apart, self.together).mean(axis=0)

    def _windows_of(self, places: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
        ends = (*places[1:], self.record.steps)
        return [
            self._window(places[max(0, index - self.order) : index + 1], end)
            for index, (start, end) in enumerate(zip(places, ends)) if end > start + 1
        ]

    def _window(self, nodes: tuple[int, ...], end: int) -> tuple[np.ndarray, np.ndarray]:
        """How far the P-steps between nodes[-1] and `end` lead astray: in terms of the record's directions (steps,), and the squares (B,).

        nodes: the I-steps that they are forecast from.
        """
        if (nodes, end) not in self._windows:
            taus, steps, last = self.record.taus, self.record.steps, nodes[-1]
            strayed = np.zeros_like(self._moves)
            for step in range(last + 1, end):
                forecast = _through(nodes, taus, taus[last] + self.reach * (taus[step] - taus[last]), steps)
                error = forecast - np.eye(steps)[step]
                if end < steps:
                    error += self.corrector * (_through((*nodes, end), taus, taus[step], steps) - forecast)
                strayed += self._moves[step] * error
            self._windows[nodes, end] = strayed, self.record.products @ strayed @ strayed
        return self._windows[nodes, end]


def faded(moves: np.ndarray | float, noise: np.ndarray | float, damping: float = DAMPING) -> np.ndarray:
    """What is left at the end of errors made at this noise, in units of the signal."""
    return moves / np.sqrt(1 + (noise / damping) ** 2)


def decibels(whole: np.ndarray, apart: np.ndarray, together: float = TOGETHER) -> np.ndarray:
    """Of errors whose sum has the square `whole`, and whose squares have the sum `apart`."""
    return 10 * np.log10(np.maximum(together * whole + (1 - together) * apart, SMALLEST))


def _through(nodes: Sequence[int], taus: Sequence[float], tau: float, steps: int) -> np.ndarray:
    """(steps,): the weight of each step's direction in the polynomial through `nodes`, at tau."""
    weights = np.zeros(steps)
    weights[list(nodes)] = lagrange_weights([taus[node] for node in nodes], tau)
    return weights
