"""The fitted term: how much curvature a run's forecasts should have, found out during the run.

Some models' updates follow a line through the last I-steps, and a parabola overshoots; others' follow the parabola, and
a line falls short by 7 dB (docs/findings/forecast.md). Each I-step shows which: it computes what the forecast from the
I-steps before it would have been wrong about. The least-squares share of the next order's term in that error is taken
in the forecasts that follow, within 0 and 1.

It is fitted to what the network adds to its input (schedules/run_record.py), not to the blocks' updates: much of an
error in x changes these without reaching the output.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..sampling.polynomial import lagrange_weights, weighted_sum
from ..settings import FORGETTING


class FittedTerm:
    """The share of the next order's term that the forecasts of one run take.

    order: of the forecasts without it.
    reach: how far they extrapolate, as in `CacheSettings`.
    """

    def __init__(self, order: int, reach: float) -> None:
        self.order, self.reach = order, reach
        self.share = 0.0
        self.i_steps: list[tuple[float, Tensor]] = []  # (tau, what the network added), the newest first
        self._along = self._length = 0.0  # inner product of error and term, and the term's square, over the error's

    def add_i_step(self, tau: float, added: Tensor, spacing: float) -> None:
        """Record an I-step, and fit the share to it if there are enough before it.

        added: (B, ...) float32, what the network added to its input.
        spacing: I-steps no further apart in tau count as one.
        """
        if self.i_steps and tau >= self.i_steps[0][0] - spacing:  # the same step again, or sigma has risen
            self.i_steps = [(then, kept) for then, kept in self.i_steps if then > tau + spacing]
        taus, known = [then for then, _ in self.i_steps], [kept for _, kept in self.i_steps]
        if len(known) == self.order + 2:
            evaluated_at = taus[0] + self.reach * (tau - taus[0])
            weights = lagrange_weights(taus[:-1], evaluated_at)
            error = added - weighted_sum(weights, known[:-1])
            term = weighted_sum(term_weights(taus, self.order, evaluated_at), known)
            self._learn(error.flatten(), term.flatten())
        self.i_steps = [(tau, added), *self.i_steps][: self.order + 2]

    def _learn(self, error: Tensor, term: Tensor) -> None:
        size = max(float(error @ error), 1e-30)  # so that every I-step counts alike
        self._along = FORGETTING * self._along + float(error @ term) / size
        self._length = FORGETTING * self._length + float(term @ term) / size
        self.share = min(max(self._along / self._length, 0.0), 1.0) if self._length else 0.0


def term_weights(taus: Sequence[float], order: int, tau: float) -> list[float]:
    """The weights of order + 2 nodes in the term that raises a forecast at `tau` from `order` to the next.

    taus: of the nodes; the first order + 1 are those of the forecast.
    """
    lower = [*lagrange_weights(taus[: order + 1], tau), 0.0]
    return [higher - weight for higher, weight in zip(lagrange_weights(taus, tau), lower)]
