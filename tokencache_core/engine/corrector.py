"""The corrector: each I-step corrects part of the error that the P-steps before it made.

An I-step adds a node to the polynomial through the I-steps, and so shows in hindsight the directions that the P-steps
before it should have taken. The resulting error in x is corrected together with the I-step's own move. This costs no
evaluation: it is the corrector of a predictor-corrector multistep method (like UniC in UniPC, arXiv 2302.04867). Only
part of the error is corrected, because the I-step is computed at the erroneous x and leads some of the way back by
itself (docs/findings/forecast.md). Of a P-step that computed some tokens, correspondingly less is corrected.

For Euler's method (DDIM, ComfyUI's `euler` and `ddim`): x moves by (sigma' - sigma) d, with d = (x - clean) / sigma.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampling.polynomial import lagrange_weights, weighted_sum

# distance, as a share of x's root mean square, from where an element was led, above which another node has moved it
ASTRAY = 1e-3


class Corrector:
    """The corrector of one run.

    strength: the share of the error that is corrected, 0..1.
    order: the order of the forecast whose error it corrects.
    """

    def __init__(self, strength: float, order: int) -> None:
        self.strength, self.nodes = strength, order + 2
        self.i_steps: list[tuple[float, Tensor]] = []  # (tau, direction)
        # since the last I-step: (tau, move times the share that was forecast, direction)
        self.p_steps: list[tuple[float, float | Tensor, Tensor]] = []
        self.led: Tensor | None = None  # where the last step led x, as far as is known

    def forget(self) -> None:
        """Discard the history: the trajectory was interrupted."""
        self.i_steps, self.p_steps, self.led = [], [], None

    def leads(self, x: Tensor, move: float, direction: Tensor) -> None:
        """Record that the step from x (B, ...) goes `move` times `direction`: the next one should begin there."""
        self.led = x.float() + move * direction

    def arrived(self, x: Tensor) -> None:
        """Forget the errors of P-steps where the next step does not begin where the last one led.

        x: (B, ...) at which the next step begins. A mask that puts the original back, for example, undoes the errors
            with the moves. Each element of x is judged by itself.
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

    def add_p_step(self, tau: float, move: float, direction: Tensor, reused: float = 1.0) -> None:
        """Record a P-step.

        move, direction: it moved x by `move` (sigma' - sigma) times `direction` (B, ...).
        reused: the share of the block-tokens that was forecast, 0..1.
        """
        self.p_steps.append((tau, reused * move, direction))

    def corrected_i_step(self, tau: float, move: float, direction: Tensor) -> Tensor:
        """The corrected direction of an I-step that computed `direction` (B, ...) and moves x by `move`."""
        self.i_steps = [*self.i_steps, (tau, direction)][-self.nodes :]
        p_steps, self.p_steps = self.p_steps, []
        if not p_steps:
            return direction
        errors = [self._interpolated(then) - forecast for then, _, forecast in p_steps]
        return direction + (self.strength / move) * weighted_sum([moved for _, moved, _ in p_steps], errors)

    def _interpolated(self, tau: float) -> Tensor:
        """The direction (B, ...) at `tau`, on the polynomial through the I-steps."""
        weights = lagrange_weights([node for node, _ in self.i_steps], tau)
        return weighted_sum(weights, [direction for _, direction in self.i_steps])
