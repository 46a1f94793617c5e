"""The automatic schedule: I-steps from the model's own calibration or, without one, from known models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from .calibration import PlaceCalibration
from .run_simulator import USUAL_FADING, Fading
from .schedule import CountSchedule, Schedule, SpeedupSchedule, check_count
from .usual_count import usual_count


@dataclass(frozen=True)
class CalibratedSchedule:
    """`count` I-steps at the places that `calibration` gives."""

    calibration: PlaceCalibration
    count: int

    def __post_init__(self) -> None:
        check_count(self.count)

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        return frozenset(self.calibration.i_steps(self.count, taus))


@dataclass(frozen=True)
class AutomaticSchedule:
    """I-steps placed by a calibration or by known models.

    count: number of I-steps; 0: decided by speedup.
    speedup: the desired speed-up, which takes precedence over count. If both are 0, the usual number of I-steps is
        used (schedules/usual_count.py).
    p_step: as in `SpeedupSchedule`.
    fading: of the model that is run, where known models place I-steps; whoever opens the run knows it.
    calibration: of the model that is run; whoever opens the run looks for it.
    """

    count: int = 0
    speedup: float = 0.0
    p_step: float = 0.0
    fading: Fading = USUAL_FADING
    calibration: PlaceCalibration | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"the number of I-steps must be 1 or more, or 0 for the usual number, not {self.count}")
        if self.speedup:
            SpeedupSchedule(self.speedup)  # checks it

    def calibrated(self, calibration: PlaceCalibration | None) -> AutomaticSchedule:
        return replace(self, calibration=calibration)

    def placed(self, taus: Sequence[float]) -> Schedule:
        """The schedule that this one becomes in a run at the noise times `taus`."""
        if self.calibration is None:
            by_count = partial(CountSchedule, fading=self.fading)
        else:
            by_count = partial(CalibratedSchedule, self.calibration)
        return (
            SpeedupSchedule(self.speedup, by_count, self.p_step)
            if self.speedup
            else by_count(self.count or usual_count(taus))
        )

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        return self.placed(taus).i_steps(taus)
