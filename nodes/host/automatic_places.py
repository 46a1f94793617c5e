"""Where a run's I-steps lie when nobody says where: by a calibration of the model, else where known models have them,
or everywhere in a run that calibrates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...tokencache_core.schedules.automatic import AutomaticSchedule
from ...tokencache_core.schedules.calibration import best_of
from ...tokencache_core.schedules.schedule import ExplicitSchedule, Schedule
from ..folders.calibration_folder import kept_calibrations
from .first_run import UNCALIBRATED, Lesson, RunKind
from .sampler_kind import teaches_nothing

HOW = "turn on calibrate_on_first_run in Apply TokenCache, or run Calibrate I-Steps"


@dataclass(frozen=True)
class RunPlaces:
    """words: why I-steps lie where they do. notes: of files that could not be read. lesson: of a run that
    calibrates.
    """

    schedule: Schedule
    words: str = ""
    notes: tuple[str, ...] = ()
    lesson: Lesson | None = None


def automatic_places(
    schedule: AutomaticSchedule, kind: RunKind, sampler: Any, sigmas: Sequence[float], calibrates: bool
) -> RunPlaces:
    """For the run of a SAMPLER down `sigmas` (steps + 1). calibrates: it may be computed whole to that end, if no
    calibration serves it.
    """
    kept, notes = kept_calibrations()
    name = best_of(kept, kind.fingerprint, kind.sampler, kind.cfg, kind.taus)
    if name is not None:
        return RunPlaces(schedule.calibrated(kept[name]), f"by the calibration {name}", notes)
    if not calibrates:
        return RunPlaces(schedule, f"{UNCALIBRATED}: {HOW}", notes)
    if why := teaches_nothing(sampler, sigmas):
        return RunPlaces(schedule, f"{UNCALIBRATED}, and this run could not be one: {why}", notes)
    return RunPlaces(ExplicitSchedule(tuple(range(len(kind.taus)))), "", notes, Lesson(kind, sigmas, schedule))


def guidance(guider: Any) -> float:
    """Its cfg; 1, as without guidance, where it has none, or several."""
    cfg = getattr(guider, "cfg", 1.0)
    return max(0.0, float(cfg)) if isinstance(cfg, (int, float)) else 1.0
