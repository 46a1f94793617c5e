"""I-steps placed by an error bound: a step becomes an I-step if, as a P-step, it would push the expected error since
the last I-step over the bound.

An I-step gives the direction in which it moves x. A forecast of order m is the polynomial through the last m + 1
directions, and its error at tau is the next divided difference times the product of tau's distances from its nodes
(Newton's remainder; a forecast with a larger reach is assumed to be no worse). That difference is estimated from the
I-steps so far. Multistep methods control their step size in this way (Hairer, Norsett and Wanner, Solving Ordinary
Differential Equations I, III.5); here the step is the gap between I-steps.
"""

from __future__ import annotations

from math import prod

from torch import Tensor

SAME = 1e-9  # times that differ by less are equal
# largest distance of a P-step from the last I-step, in units of the distance between the last two I-steps: 2, with some
# tolerance for rounded times
MAX_GAP_RATIO = 2.1


class ErrorBound:
    """The error bound of one run.

    bound: of the expected error in x, relative to x (root mean squares).
    order: of the forecast.
    reused: the share of the block-tokens that a P-step forecasts.
    """

    def __init__(self, bound: float, order: int, reused: float = 1.0) -> None:
        self.bound, self.nodes, self.reused = bound, order + 2, reused
        self.i_steps: list[tuple[float, Tensor]] = []  # (tau, direction), the newest last
        self.difference = 0.0  # divided difference of the I-steps' directions, relative to x
        self.expected = 0.0  # expected error since the last I-step, relative to x

    def allows(self, tau: float, move: float) -> bool:
        """Whether the step at `tau` may be a P-step; if so, its expected error is added.

        move: sigma' - sigma; the step moves x by this times its direction.
        """
        if len(self.i_steps) < 2:
            return False
        (before, _), (last, _) = self.i_steps[-2:]
        if abs(last - tau) > MAX_GAP_RATIO * abs(before - last) + SAME:
            return False
        expected = self.expected + self.reused * self._error(tau, move)
        if expected > self.bound:
            return False
        self.expected = expected
        return True

    def add_i_step(self, tau: float, x: Tensor, direction: Tensor) -> None:
        """Record an I-step at x (B, ...), which computed `direction` (B, ...)."""
        others = [(then, kept) for then, kept in self.i_steps if abs(then - tau) > SAME]
        self.i_steps = [*others, (tau, direction.detach())][-self.nodes :]
        self.expected = 0.0
        self.difference = float(_rms(self._divided_difference()) / _rms(x.detach()))

    def _divided_difference(self) -> Tensor:
        """The divided difference f[tau_0, ..., tau_k] of the I-steps' directions, (B, ...) float32."""
        (_, first), *others = self.i_steps
        total = first.float() / self._denominator(0)
        for index, (_, direction) in enumerate(others, 1):
            total = total + direction.float() / self._denominator(index)
        return total

    def _denominator(self, index: int) -> float:
        """The product of an I-step's distances in tau from all the others."""
        tau = self.i_steps[index][0]
        return prod(tau - other for other, _ in self.i_steps if other != tau)

    def _error(self, tau: float, move: float) -> float:
        """The expected error of one P-step. Before enough I-steps are known, that of a forecast of one order less."""
        return abs(move) * self.difference * prod(abs(tau - then) for then, _ in self.i_steps[1:])


def _rms(values: Tensor) -> Tensor:
    return values.float().square().mean().sqrt()
