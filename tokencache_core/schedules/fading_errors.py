"""Errors of cached runs in which the network does not answer to them, simulated from the record of a full run.

The error of a P-step is the difference between the forecast of its direction and the direction itself, both known from
the record (schedules/run_record.py). An I-step corrects a share of it (engine/corrector.py). How the network answers to
an error in x is not simulated. It lets errors fade that were made where the noise is strong, some networks sooner than
others, and responds to the errors of one window of P-steps before the next one begins, so that errors of different
windows neither add up nor cancel quite as they do in the record (`TOGETHER`): places that rely on it serve the record's
samples alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..sampling.polynomial import lagrange_weights
from ..settings import CacheSettings
from .run_record import RunRecord, noise_of

# share of the squared error that is the square of the sum over windows; the rest is the sum of their squares
TOGETHER = 0.5
Window = tuple[tuple[int, ...], int]  # of P-steps: the I-steps in their forecasts, and the step at which it ends
SMALLEST = 1e-12  # lower limit of squared errors, for their logarithm


class FadingErrors:
    """A simulator of cached runs whose errors fade.

    record: of a full run.
    settings: of the cached runs; of these, their order, reach and corrector.
    dampings: sigmas above which errors fade; what is measured is the mean over them, in dB.
    together: share of the squared error in which windows add up or cancel.
    """

    def __init__(
        self, record: RunRecord, settings: CacheSettings, dampings: Sequence[float], together: float = TOGETHER
    ) -> None:
        self.record, self.settings, self.together = record, settings, together
        noise = np.array([noise_of(tau) for tau in record.taus])
        self._moves = faded(record.moves, noise, dampings)  # (dampings, steps)
        self._rows: dict[Window, int] = {}  # of every window so far: its row in the two arrays below
        self._errors = np.zeros((0, *self._moves.shape))  # (windows, dampings, steps), as in `_error`
        self._squares = np.zeros((0, len(dampings), len(record.products)))  # (windows, dampings, B), of these errors

    def errors_db(self, candidates: Sequence[Sequence[int]]) -> np.ndarray:
        """(candidates,): the errors in dB, means over dampings and samples. candidates: places, each rising from 0."""
        windows = [self._windows(tuple(places)) for places in candidates]
        self._learn({window: None for each in windows for window in each if window not in self._rows})
        needed: dict[int, int] = {}  # from a row to its column in `has`
        columns = [[needed.setdefault(self._rows[window], len(needed)) for window in each] for each in windows]
        has = np.zeros((len(candidates), len(needed)))  # 1 where a candidate has a window
        for each, has_columns in zip(has, columns):
            each[has_columns] = 1
        rows = [*needed]
        sums = np.tensordot(has, self._errors[rows], axes=1)  # (candidates, dampings, steps)
        apart = np.tensordot(has, self._squares[rows], axes=1)  # (candidates, dampings, B)
        return decibels(self._squared(sums), apart, self.together).mean(axis=(1, 2))

    def _windows(self, places: tuple[int, ...]) -> list[Window]:
        """The windows of P-steps between the I-steps at `places`."""
        order = self.settings.order
        return [
            (places[index - order if index > order else 0 : index + 1], end)
            for index, (start, end) in enumerate(zip(places, (*places[1:], self.record.steps)))
            if end > start + 1
        ]

    def _learn(self, windows: Iterable[Window]) -> None:
        """Work out the errors of windows that are new."""
        if not (new := [*windows]):
            return
        errors = np.stack([self._error(*window) for window in new])
        self._rows |= {window: len(self._errors) + number for number, window in enumerate(new)}
        self._errors = np.concatenate([self._errors, errors])
        self._squares = np.concatenate([self._squares, self._squared(errors)])

    def _squared(self, errors: np.ndarray) -> np.ndarray:
        """(..., B): the squares of errors (..., steps) that are coefficients of what the record holds."""
        flat: np.ndarray = np.reshape(errors, (-1, self.record.steps))
        squares: np.ndarray = np.einsum("bws,ws->wb", flat @ self.record.products, flat)
        return np.reshape(squares, (*errors.shape[:-1], -1))

    def _error(self, nodes: tuple[int, ...], end: int) -> np.ndarray:
        """(dampings, steps): the error of the P-steps between nodes[-1] and `end`, as coefficients of what the record
        holds.

        nodes: the I-steps in their forecasts.
        """
        taus, last = self.record.taus, nodes[-1]
        known = [taus[node] for node in nodes]
        seen, share = ([*nodes, end], self.settings.corrector) if end < self.record.steps else ([*nodes], 0.0)
        times = [taus[node] for node in seen]
        total = np.zeros((self.record.steps, len(self._moves)))
        for step in range(last + 1, end):
            move, reached = self._moves[:, step], taus[last] + self.settings.reach * (taus[step] - taus[last])
            for node, weight in zip(nodes, lagrange_weights(known, reached)):
                total[node] += (1 - share) * move * weight
            if share:  # of what the I-step at `end` shows, in hindsight
                for node, weight in zip(seen, lagrange_weights(times, taus[step])):
                    total[node] += share * move * weight
            total[step] -= move
        return np.swapaxes(total, 0, 1)


def faded(moves: np.ndarray, noise: np.ndarray, dampings: Sequence[float]) -> np.ndarray:
    """(dampings, steps): the part of `moves` (errors, in units of the signal) that is left at the end of a run if made
    at this noise: 1 / sqrt(1 + (noise / damping)^2). moves, noise: (steps,).
    """
    return moves / np.sqrt(1 + (noise / np.array(dampings)[:, None]) ** 2)


def decibels(whole: np.ndarray, apart: np.ndarray, together: float = TOGETHER) -> np.ndarray:
    """The error in dB of several windows together.

    whole: the square of the sum of their errors.
    apart: the sum of the squares of their errors.
    together: as in `FadingErrors`.
    """
    return 10 * np.log10(np.maximum(together * whole + (1 - together) * apart, SMALLEST))
