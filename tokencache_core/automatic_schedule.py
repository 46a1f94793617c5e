"""I-steps where the model's own calibration has them, or, without one, where known models would have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .known_models import known_places
from .place_calibration import PlaceCalibration
from .schedule import Schedule, SpeedupSchedule, check_count
from .usual_count import usual_count

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
    """`count` I-steps, or as many as make a run `speedup` times as fast, or, where both are 0, the usual number of them (usual_count.py).

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
            SpeedupSchedule(self.speedup)   # refuses one that is no speed-up

    def calibrated(self, calibration: PlaceCalibration | None) -> AutomaticSchedule:
        return replace(self, calibration=calibration)

    def placed(self, taus: Sequence[float]) -> Schedule:
        """What it comes to in a run at the noise times `taus`."""
        if self.speedup:
            return SpeedupSchedule(self.speedup, lambda count: PlacedByCount(count, self.calibration), self.p_step)
        return PlacedByCount(self.count or usual_count(taus), self.calibration)

    def i_steps(self, taus: Sequence[float]) -> frozenset[int]:
        return self.placed(taus).i_steps(taus)
