"""How a training ends: what has come of it, or that it has diverged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Of a training, on the held-out run: how far it strays with and without what was learned, and the speed-up by the clock."""

    drift: float
    without: float
    speedup: float

    @property
    def notes(self) -> dict[str, str]:
        """For the file."""
        return {"held_out_drift": f"{self.drift:.4g}", "held_out_drift_untrained": f"{self.without:.4g}", "held_out_speedup": f"{self.speedup:.2f}"}


class TrainingDiverged(ArithmeticError):
    """The drift is no longer a number; the averaged weights are those of the last whole iteration."""
