"""Errors of cached runs in which the network answers to them, simulated from the record of a full run.

Simulated runs take the steps of cached ones, many at a time, with a model of the network in its place. It adds to its
input what it added in the record, and it answers to an error in x as the best denoiser of Gaussian data does
(`SPREAD`). So I-steps take errors back, sooner where the noise is strong. What they have not taken back is also in the
updates that they leave to later forecasts, which amplify it: more so over a gap that is longer than the one before.
How far the errors of different windows of P-steps cancel is as uncertain as in schedules/fading_errors.py.

All vectors have a few coordinates, those in which the recorded run changes most (`COORDINATES`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..settings import FORGETTING, CacheSettings
from .fading_errors import SMALLEST, TOGETHER, decibels
from .run_record import RunRecord, noise_of

# standard deviation, in units of the signal, of the Gaussian data whose best denoiser answers to errors in x; with 1, 2
# and 4 together, the same places are found (docs/findings/places.md)
SPREAD = 2.0
COORDINATES = 8
FAR = 1e9  # distance in noise time of nodes that a run does not have yet, which is so great that they do not matter


class AnsweredErrors:
    """A simulator of cached runs whose network answers to errors.

    record: of a full run.
    settings: of the cached runs; of these, their order, reach, corrector and fitted term (engine/fitted_term.py).
    together: as in `FadingErrors`.
    """

    def __init__(self, record: RunRecord, settings: CacheSettings, together: float = TOGETHER) -> None:
        self.record, self.settings, self.together = record, settings, together
        self.added = _in_coordinates(record.products, COORDINATES)
        noise, sigmas = np.array([noise_of(tau) for tau in record.taus]), np.array(record.sigmas[:-1])
        kept = 1 / (1 + (noise / SPREAD) ** 2)  # share of an error in the signal that the denoiser keeps
        self.answers = (1 - kept * noise / sigmas) / sigmas  # (steps,), to an error of 1 in x, in the direction

    def errors_db(self, candidates: Sequence[Sequence[int]]) -> np.ndarray:
        """(candidates,): the errors in dB at the end of runs with these I-steps. candidates: each rising from 0."""
        is_i_step = np.zeros((self.record.steps, len(candidates)), bool)
        for number, places in enumerate(candidates):
            is_i_step[list(places), number] = True
        runs = _Runs(self, len(candidates))
        for step, here in enumerate(is_i_step):
            runs.take(step, here)
        return decibels(_square(runs.error), runs.apart + _square(runs.window), self.together)


class _Runs:
    """Cached runs under way. Vectors are (runs, coordinates)."""

    def __init__(self, simulator: AnsweredErrors, runs: int) -> None:
        self.simulator, self.record, self.settings = simulator, simulator.record, simulator.settings
        nodes, width = self.settings.order + 2, simulator.added.shape[1]
        self.error = np.zeros((runs, width))  # of x
        # of that, what the P-steps since the last I-step made, and the squares of what each window before them made
        self.window, self.apart = np.zeros((runs, width)), np.zeros(runs)
        self.added, self.directions = _Polynomial(nodes, runs, width), _Polynomial(nodes, runs, width)
        # of the P-steps since the last I-step: their moves times powers of their noise time, and the moves of x
        self.moments, self.moved = np.zeros((nodes, runs)), np.zeros((runs, width))
        self.i_steps = np.zeros(runs, int)  # number of them so far
        # the fitted term's share, and what it is the ratio of
        self.share, self.along, self.length = np.zeros((3, runs, 1))

    def take(self, step: int, is_i_step: np.ndarray) -> None:
        """Take a step, with an evaluation of the network in those runs where `is_i_step` (runs,)."""
        simulator, record, settings = self.simulator, self.record, self.settings
        move, tau, recorded = record.sigmas[step + 1] - record.sigmas[step], record.taus[step], simulator.added[step]
        here, given = is_i_step[:, None], record.scales[step] * self.error
        newest = self.added.times[0]
        *terms, next_term = self.added.terms(newest + settings.reach * (tau - newest))
        forecast = given + sum(terms)
        answered = recorded + simulator.answers[step] * self.error
        led = forecast + self.share * next_term if settings.takes_fitted_term else forecast
        self.error = self.error + move * (np.where(here, answered, led) - recorded)
        if is_i_step.any():
            if settings.takes_fitted_term:
                self._fit(answered - forecast, next_term, here & (self.i_steps >= len(self.moments))[:, None])
            self.i_steps = self.i_steps + is_i_step
            self.added.add(is_i_step, tau, answered - given)
            self.directions.add(is_i_step, tau, answered)
            correction = settings.corrector * (self.directions.summed(self.moments) - self.moved)
            self._end_windows(here, correction)
        powers = move * tau ** np.arange(len(self.moments))
        self.moments = self.moments + np.where(is_i_step, 0.0, powers[:, None])
        self.moved = self.moved + np.where(here, 0.0, move * led)
        grown = np.where(is_i_step, simulator.answers[step], record.scales[step])  # by an error of 1 in x
        kept = 1 + move * grown
        self.apart = kept**2 * self.apart
        self.window = np.where(here, 0.0, kept[:, None] * self.window + move * (led - given - recorded))

    def _end_windows(self, here: np.ndarray, correction: np.ndarray) -> None:
        """An I-step where `here` (runs, 1), which corrects x by `correction`."""
        self.error = self.error + np.where(here, correction, 0.0)
        self.apart = self.apart + _square(np.where(here, self.window + correction, 0.0))
        self.moments, self.moved = np.where(here[:, 0], 0.0, self.moments), np.where(here, 0.0, self.moved)

    def _fit(self, error: np.ndarray, term: np.ndarray, here: np.ndarray) -> None:
        """As in `FittedTerm`, in those runs where `here` (runs, 1)."""
        size = np.maximum((error**2).sum(axis=1, keepdims=True), SMALLEST)
        for total, product in ((self.along, error * term), (self.length, term**2)):
            total[here] = (FORGETTING * total + product.sum(axis=1, keepdims=True) / size)[here]
        self.share = np.minimum(np.maximum(self.along / np.maximum(self.length, SMALLEST), 0.0), 1.0)


class _Polynomial:
    """The polynomial through the last I-steps of each run, in Newton's form.

    times: (nodes, runs), the newest first.
    differences: (nodes, runs, coordinates), divided differences: of the newest node, the two newest, and so on.
    """

    def __init__(self, nodes: int, runs: int, width: int) -> None:
        self.times = np.stack([np.full(runs, FAR ** (number + 1)) for number in range(nodes)])
        self.values = self.differences = np.zeros((nodes, runs, width))

    def add(self, where: np.ndarray, tau: float, value: np.ndarray) -> None:
        """Add a node to the runs `where` (runs,), and drop their oldest."""
        self.times = np.where(where, [np.full_like(self.times[0], tau), *self.times[:-1]], self.times)
        self.values = np.where(where[:, None], [value, *self.values[:-1]], self.values)
        row, found = self.values, [self.values[0]]
        for gap in range(1, len(self.times)):
            row = (row[:-1] - row[1:]) / (self.times[:-gap] - self.times[gap:])[..., None]
            found.append(row[0])
        self.differences = np.stack(found)

    def terms(self, at: np.ndarray) -> list[np.ndarray]:
        """Its terms (runs, coordinates) at the times `at` (runs,), by rising order."""
        product, found = np.ones_like(at), [self.differences[0]]
        for time, difference in zip(self.times, self.differences[1:]):
            product = product * (at - time)
            found.append(product[:, None] * difference)
        return found

    def summed(self, moments: np.ndarray) -> np.ndarray:
        """The weighted sum of its values at several times. moments: (nodes, runs), weighted sums of their powers."""
        total = moments[0][:, None] * self.differences[0]
        for time, difference in zip(self.times, self.differences[1:]):
            moments = moments[1:] - time * moments[:-1]  # of the times less `time`, multiplied by this difference
            total = total + moments[0][:, None] * difference
        return total


def _square(vectors: np.ndarray) -> np.ndarray:
    """(runs,): their squared lengths."""
    return (vectors**2).sum(axis=1)


def _in_coordinates(products: np.ndarray, coordinates: int) -> np.ndarray:
    """(steps, coordinates): vectors whose inner products are about the means of `products` (B, steps, steps), with
    every sample scaled to the same mean square.
    """
    size = np.maximum(np.einsum("bss->b", products) / products.shape[1], SMALLEST)
    values, axes = np.linalg.eigh((products / size[:, None, None]).mean(axis=0))
    return (axes * np.sqrt(np.maximum(values, 0.0)))[:, -coordinates:]
