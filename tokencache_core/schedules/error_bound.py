"""I-steps where they are needed: on the step whose P-step would take the expected error of all since the last I-step
over a bound.

An I-step gives the direction in which it moves x. A forecast of order m is the polynomial through the last m + 1 of
them, and it is wrong at tau by the next divided difference times the product of tau's distances from its nodes
(Newton's remainder; a forecast that reaches further than tau is taken to be no worse); the I-steps before tell that
difference. Step size control of a multistep method works like this (Hairer, Norsett and Wanner, Solving Ordinary
Differential Equations I, III.5); here the step is what goes uncomputed.
"""

from __future__ import annotations

from math import prod

from torch import Tensor

SAME = 1e-9  # times that differ by less are one
# a P-step is at most so many times as far from the last I-step as that is from the one before: twice, and a rounded
# time
FARTHEST = 2.1


class ErrorBound:
    """Of one run. bound: of the expected error in x, as a share of x (root mean squares).

    order: of the forecast. reused: the share of the block-tokens that a P-step forecasts.
    """

    def __init__(self, bound: float, order: int, reused: float = 1.0) -> None:
        self.bound, self.nodes, self.reused = bound, order + 2, reused
        self.i_steps: list[tuple[float, Tensor]] = []  # (tau, direction), the newest last
        self.difference = 0.0  # of the I-steps' directions, as a share of x
        self.expected = 0.0  # error since the last I-step, as a share of x

    def allows(self, tau: float, move: float) -> bool:
        """Whether the step at `tau`, which moves x by `move` (sigma' - sigma) times its direction, may be a P-step; if
        so, its error counts.
        """
        if len(self.i_steps) < 2:
            return False
        (before, _), (last, _) = self.i_steps[-2:]
        if abs(last - tau) > FARTHEST * abs(before - last) + SAME:
            return False
        expected = self.expected + self.reused * self._error(tau, move)
        if expected > self.bound:
            return False
        self.expected = expected
        return True

    def computed(self, tau: float, x: Tensor, direction: Tensor) -> None:
        """All was computed at x (B, ...), and led in `direction` (B, ...)."""
        others = [(then, kept) for then, kept in self.i_steps if abs(then - tau) > SAME]
        self.i_steps = [*others, (tau, direction.detach())][-self.nodes :]
        self.expected = 0.0
        self.difference = float(_rms(self._divided_difference()) / _rms(x.detach()))

    def _divided_difference(self) -> Tensor:
        """f[tau_0, ..., tau_k] of the I-steps kept."""
        taus = [tau for tau, _ in self.i_steps]
        return sum(
            direction.float() / prod(tau - other for other in taus if other != tau) for tau, direction in self.i_steps
        )

    def _error(self, tau: float, move: float) -> float:
        """Of one P-step. In a run's first windows, of a forecast of one order less than the one that is taken."""
        return abs(move) * self.difference * prod(abs(tau - then) for then, _ in self.i_steps[1:])


def _rms(values: Tensor) -> Tensor:
    return values.float().square().mean().sqrt()
