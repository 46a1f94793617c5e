"""Simulation of any cached run of a model, from the record of a full run, in a fraction of a millisecond.

The error of a P-step is the difference between the forecast of its direction and the direction itself, both known from
the record (schedules/run_record.py). An I-step corrects a share of it (engine/corrector.py). What is not simulated is
how the network responds to errors in x. It lets errors fade that were made where the noise is strong (`DAMPING`), and
responds to the errors of one window of P-steps before the next one begins, so that errors of different windows neither
add up nor cancel quite as they do in the record (`TOGETHER`): places that rely on it serve the record's samples alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..sampling.polynomial import lagrange_weights
from .run_record import RunRecord, noise_of

DAMPING = 4.0  # an error made at sigma counts 1 / sqrt(1 + (sigma / damping)^2)
# share of the squared error that is the square of the sum over windows; the rest is the sum of their squares
TOGETHER = 0.5
SMALLEST = 1e-12  # lower limit of squared errors, for their logarithm


class RunSimulator:
    """A simulator of cached runs.

    record: of a full run.
    order, reach, corrector: of the cached runs, as in `CacheSettings`.
    damping: sigma above which errors fade.
    together: share of the squared error in which windows add up or cancel.
    """

    def __init__(
        self,
        record: RunRecord,
        *,
        order: int,
        reach: float,
        corrector: float,
        damping: float = DAMPING,
        together: float = TOGETHER,
    ) -> None:
        self.record, self.order, self.reach, self.corrector, self.together = record, order, reach, corrector, together
        self._moves = faded(record.moves, np.array([noise_of(tau) for tau in record.taus]), damping)  # (steps,)
        # of every window of P-steps so far, by its nodes and end: its row in the two lists below
        self._rows: dict[tuple[tuple[int, ...], int], int] = {}
        self._errors = [np.zeros_like(self._moves)]  # (steps,) each: coefficients of what the record holds
        self._squares = [np.zeros(len(record.products))]  # (B,) each, of these errors

    def error_db(self, places: Sequence[int]) -> float:
        """The error at the end of a run with these I-steps, in dB; useful only for comparing places."""
        return float(self.errors_db([places])[0])

    def errors_db(self, candidates: Sequence[Sequence[int]]) -> np.ndarray:
        """(candidates,): the errors in dB, means over samples. candidates: places, each rising from 0."""
        rows: list[int] = []
        firsts: list[int] = []
        for places in candidates:
            firsts.append(len(rows))
            rows.append(0)  # no error: a run may have no P-step at all
            rows += self._windows(tuple(places))
        if unknown := self._errors[len(self._squares) :]:
            errors = np.stack(unknown)
            self._squares += [*np.einsum("bwj,wj->wb", errors @ self.record.products, errors)]
        sums: np.ndarray = np.add.reduceat(np.stack([self._errors[row] for row in rows]), firsts)  # (candidates, steps)
        apart: np.ndarray = np.add.reduceat(np.stack([self._squares[row] for row in rows]), firsts)  # (candidates, B)
        whole = np.einsum("bcj,cj->bc", sums @ self.record.products, sums)
        return decibels(whole, np.swapaxes(apart, 0, 1), self.together).mean(axis=0)

    def _windows(self, places: tuple[int, ...]) -> list[int]:
        """The rows of the windows of P-steps between the I-steps at `places`."""
        rows: list[int] = []
        for index, (start, end) in enumerate(zip(places, (*places[1:], self.record.steps))):
            if end > start + 1:
                window = places[max(0, index - self.order) : index + 1], end
                row = self._rows.get(window)
                if row is None:
                    row = self._rows[window] = len(self._errors)
                    self._errors.append(self._error(*window))
                rows.append(row)
        return rows

    def _error(self, nodes: tuple[int, ...], end: int) -> np.ndarray:
        """(steps,): the error of the P-steps between nodes[-1] and `end`, as coefficients of what the record holds.

        nodes: the I-steps in their forecasts.
        """
        taus, last = self.record.taus, nodes[-1]
        known = [taus[node] for node in nodes]
        seen, share = ([*nodes, end], self.corrector) if end < self.record.steps else ([*nodes], 0.0)
        times = [taus[node] for node in seen]
        total = [0.0] * self.record.steps
        for step in range(last + 1, end):
            move, reached = float(self._moves[step]), taus[last] + self.reach * (taus[step] - taus[last])
            for node, weight in zip(nodes, lagrange_weights(known, reached)):
                total[node] += (1 - share) * move * weight
            if share:  # of what the I-step at `end` shows, in hindsight
                for node, weight in zip(seen, lagrange_weights(times, taus[step])):
                    total[node] += share * move * weight
            total[step] -= move
        return np.array(total)


def faded(moves: np.ndarray | float, noise: np.ndarray | float, damping: float = DAMPING) -> np.ndarray:
    """The part of `moves` (errors, in units of the signal) that is left at the end of a run if made at this noise."""
    return moves / np.sqrt(1 + (noise / damping) ** 2)


def decibels(whole: np.ndarray, apart: np.ndarray, together: float = TOGETHER) -> np.ndarray:
    """Of errors whose sum has the square `whole`, and whose squares have the sum `apart`."""
    return 10 * np.log10(np.maximum(together * whole + (1 - together) * apart, SMALLEST))
