"""I-steps where the model's own calibration has them, or, without one, where known models would have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .known_models import known_places
from .place_calibration import PlaceCalibration
from .schedule import Schedule, SpeedupSchedule, check_count

SHARE, LEAST = 0.32, 2.0    # of the steps, and beside them, are I-steps where nobody says how many


def usual_count(steps: int) -> int:
    """How many I-steps a run has by default: 18 of 50, 8 of 20, 5 of 8."""
    return min(steps, round(SHARE * steps + LEAST))


@dataclass(frozen=True)
class PlacedByCount:
    """`count` I-steps where `calibration` has them; where known models would have them if there is none."""

    count: int
    calibration: PlaceCalibration | None = None

    def __post_init__(self) -> None:
        check_count(self.count)

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        if self.calibration is None:
            return frozenset(known_places(self.count, taus))
        return frozenset(self.calibration.i_steps(self.count, taus))


@dataclass(frozen=True)
class AutomaticSchedule:
    """`count` I-steps, or as many as make a run `speedup` times as fast, or one in `interval` steps, or, where all are 0, the usual number (`usual_count`).

    p_step: as in `SpeedupSchedule`. calibration: of the model that is run; who opens the run looks for it.
    """

    count: int = 0
    speedup: float = 0.0
    interval: int = 0
    p_step: float = 0.0
    calibration: PlaceCalibration | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"the number of I-steps is 1 or more, or 0 for the usual number, not {self.count}")
        if self.speedup:
            SpeedupSchedule(self.speedup)   # refuses one that is no speed-up

    def calibrated(self, calibration: PlaceCalibration | None) -> AutomaticSchedule:
        return replace(self, calibration=calibration)

    def placed(self, steps: int) -> Schedule:
        """What it comes to in a run of so many steps."""
        if self.speedup:
            return SpeedupSchedule(self.speedup, lambda count: PlacedByCount(count, self.calibration), self.p_step)
        count = -(-steps // self.interval) if self.interval else usual_count(steps)
        return PlacedByCount(self.count or count, self.calibration)

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        return self.placed(len(taus)).i_steps(taus)
