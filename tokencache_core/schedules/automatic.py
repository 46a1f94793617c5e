"""I-steps where the model's own calibration has them, or, without one, where known models would have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from .calibration import PlaceCalibration
from .schedule import CountSchedule, Schedule, SpeedupSchedule, check_count
from .usual_count import usual_count


@dataclass(frozen=True)
class CalibratedSchedule:
    """`count` I-steps where `calibration` has them."""

    calibration: PlaceCalibration
    count: int

    def __post_init__(self) -> None:
        check_count(self.count)

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        return frozenset(self.calibration.i_steps(self.count, taus))


@dataclass(frozen=True)
class AutomaticSchedule:
    """`count` I-steps, or as many as make a run `speedup` times as fast, or, where both are 0, the usual number of them
    (schedules/usual_count.py).

    p_step: as in `SpeedupSchedule`. calibration: of the model that is run; who opens the run looks for it.
    """

    count: int = 0
    speedup: float = 0.0
    p_step: float = 0.0
    calibration: PlaceCalibration | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"the number of I-steps is 1 or more, or 0 for the usual number, not {self.count}")
        if self.speedup:
            SpeedupSchedule(self.speedup)  # refuses one that is no speed-up

    def calibrated(self, calibration: PlaceCalibration | None) -> AutomaticSchedule:
        return replace(self, calibration=calibration)

    def placed(self, taus: Sequence[float]) -> Schedule:
        """What it comes to in a run at the noise times `taus`."""
        by_count = CountSchedule if self.calibration is None else partial(CalibratedSchedule, self.calibration)
        return (
            SpeedupSchedule(self.speedup, by_count, self.p_step)
            if self.speedup
            else by_count(self.count or usual_count(taus))
        )

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        return self.placed(taus).i_steps(taus)
