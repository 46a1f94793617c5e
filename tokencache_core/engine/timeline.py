"""The timeline of one sampling run: which step an evaluation belongs to, and which steps are I-steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

SAME_STEP = 1e-4  # relative difference below which two sigmas are equal
RISES = 1e-6  # relative difference above which a sigma is higher than the one before
SPACING = 0.6  # share of a step's length in tau within which two refreshes count as one


class Timeline:
    """The steps of a run.

    sigmas: (steps,), the noise levels at which the steps begin, falling.
    i_steps: the steps, counted from 0, that compute everything.
    tau: from a sigma to the model's time, 1 at pure noise and 0 at the clean image, which falls during a run.
    end: the sigma at which the run ends.
    """

    def __init__(
        self, sigmas: Sequence[float], i_steps: Collection[int], tau: Callable[[float], float], end: float = 0.0
    ) -> None:
        self.sigmas, self.tau, self.end = list(sigmas), tau, end
        self.taus = [tau(sigma) for sigma in self.sigmas]
        self.i_steps = frozenset(i_steps)

    def __len__(self) -> int:
        return len(self.sigmas)

    def step_of(self, sigma: float) -> int:
        """The last step whose sigma is not below `sigma`: solvers also evaluate between steps."""
        return max((step for step, known in enumerate(self.sigmas) if known >= sigma * (1 - SAME_STEP)), default=0)

    @staticmethod
    def same(sigma: float, other: float) -> bool:
        """Whether two sigmas are equal, up to rounding."""
        return abs(sigma - other) <= SAME_STEP * max(sigma, other)

    @staticmethod
    def rises(sigma: float, previous: float) -> bool:
        """Whether an evaluation at `sigma` goes back up from the one before it."""
        return sigma > previous * (1 + RISES)

    def computes_all(self, sigma: float, previous: float | None) -> bool:
        """Whether an evaluation at `sigma` is an I-step: its own step is one, or one that has been passed over.

        previous: sigma of the evaluation before it, if any.
        """
        if previous is None or self.rises(sigma, previous):
            return True
        step = self.step_of(sigma)
        passed = range(min(self.step_of(previous) + 1, step), step + 1)
        return not self.i_steps.isdisjoint(passed)

    def passed_over(self, sigmas: Collection[float]) -> int:
        """The number of steps at which none of the evaluations at `sigmas` was made.

        0 if it is not known, because some evaluations lie between steps, as with some samplers, or because sigma rises.
        """
        if any(self.rises(then, here) for here, then in zip(self.sigmas, self.sigmas[1:])):
            return 0
        steps = {self.step_of(sigma) for sigma in sigmas}
        if any(not self.same(self.sigmas[self.step_of(sigma)], sigma) for sigma in sigmas):
            return 0
        return len(self) - len(steps)

    def move(self, sigma: float, previous: float | None = None) -> float | None:
        """The change of sigma in a step of Euler's method from `sigma`.

        previous: sigma of the evaluation before it, if any.
        None if no step begins at `sigma`, or if sigma has not fallen since `previous`.
        """
        step = self.step_of(sigma)
        falls = previous is None or sigma < previous * (1 - RISES)
        if not falls or abs(self.sigmas[step] - sigma) > SAME_STEP * sigma:
            return None
        return self.after(step) - sigma or None

    def after(self, step: int) -> float:
        """The sigma at which `step` ends."""
        return self.sigmas[step + 1] if step + 1 < len(self.sigmas) else self.end

    def spacing(self, step: int) -> float:
        """A little over half the step's length in tau, so that evaluations between steps add no node to forecasts."""
        here, then = (
            (self.taus[step], self.taus[step + 1]) if step + 1 < len(self) else (self.taus[step - 1], self.taus[step])
        )
        return SPACING * abs(here - then)
