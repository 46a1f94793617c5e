"""How many I-steps fit into a given time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one I-step and of one P-step."""

    i_step: float
    p_step: float

    def run_seconds(self, i_steps: int, steps: int) -> float:
        return i_steps * self.i_step + (steps - i_steps) * self.p_step

    def i_steps_for(self, seconds: float, steps: int, least: int = 1) -> int:
        """The number of I-steps, `least`..steps, whose run comes nearest to `seconds`."""
        return min(range(min(least, steps), steps + 1), key=lambda count: abs(self.run_seconds(count, steps) - seconds))
