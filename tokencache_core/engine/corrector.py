"""The corrector: what P-steps got wrong, taken back by the I-step that shows it.

An I-step gives the polynomial through the I-steps one node more, and so tells afterwards in which directions the
P-steps before it should have led. The difference, as far as it has moved x, is made good along with the I-step's own
move. It costs no evaluation: it is the corrector of a predictor-corrector multistep method (as UniC in UniPC, arXiv
2302.04867). Only a part of it is taken back, since the I-step, computed where the run has strayed to, leads some of the
way back by itself (docs/experiments.md); of a P-step that computed some tokens, less by their share.

For Euler's method (DDIM, ComfyUI's `euler` and `ddim`): x moves by (sigma' - sigma) d, with d = (x - clean) / sigma.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampling.polynomial import lagrange_weights

ASTRAY = (
    1e-3  # of x's root mean square: an element that is further from where it was led has been moved by somebody else
)


class Corrector:
    """Of one run. strength: the share of an error that is taken back. order: of the forecast whose error it is."""

    def __init__(self, strength: float, order: int) -> None:
        self.strength, self.nodes = strength, order + 2
        self.i_steps: list[tuple[float, Tensor]] = []  # (tau, direction)
        # since the last I-step (tau, reused share of the move, direction); the move by element where some went astray
        self.p_steps: list[tuple[float, float | Tensor, Tensor]] = []
        self.led: Tensor | None = None  # where the last step led x, as far as is known

    def forget(self) -> None:
        """What comes next does not go on from what has been."""
        self.i_steps, self.p_steps, self.led = [], [], None

    def leads(self, x: Tensor, move: float, direction: Tensor) -> None:
        """The step from x (B, ...) goes `move` times `direction`: there the next one is to begin."""
        self.led = x.float() + move * direction

    def arrived(self, x: Tensor) -> None:
        """The next step begins at x. Where that is not where the last one led, as under a mask that puts the original
        back, P-steps did no harm.

        What they got wrong is forgotten there, element by element.
        """
        led, self.led = self.led, None
        if led is None or not self.p_steps:
            return
        if led.shape != x.shape:
            self.p_steps = []
            return
        tolerance = max(ASTRAY, 4 * torch.finfo(x.dtype).eps)
        there = (x.float() - led).abs() <= tolerance * led.square().mean().sqrt()
        self.p_steps = [(tau, moved * there, direction) for tau, moved, direction in self.p_steps]

    def forecast(self, tau: float, move: float, direction: Tensor, reused: float = 1.0) -> None:
        """A P-step moved x by `move` (sigma' - sigma) times `direction` (B, ...), of which the share `reused` was
        forecast.
        """
        self.p_steps.append((tau, reused * move, direction))

    def computed(self, tau: float, move: float, direction: Tensor) -> Tensor:
        """The direction in which an I-step that computed `direction` (B, ...) is to move x by `move`."""
        self.i_steps = [*self.i_steps, (tau, direction)][-self.nodes :]
        p_steps, self.p_steps = self.p_steps, []
        if not p_steps:
            return direction
        missed = sum(moved * (self._interpolated(then) - forecast) for then, moved, forecast in p_steps)
        return direction + (self.strength / move) * missed

    def _interpolated(self, tau: float) -> Tensor:
        weights = lagrange_weights([node for node, _ in self.i_steps], tau)
        return sum(weight * direction for weight, (_, direction) in zip(weights, self.i_steps))
