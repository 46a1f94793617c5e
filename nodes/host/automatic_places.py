"""The places of a run's I-steps when no schedule is connected: from a calibration of the model, else from known models,
or at every step of a run that calibrates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...tokencache_core.schedules.automatic import AutomaticSchedule
from ...tokencache_core.schedules.calibration import best_of
from ...tokencache_core.schedules.schedule import ExplicitSchedule, Schedule
from ...tokencache_core.words.message import say
from ..folders.calibration_folder import kept_calibrations
from .first_run import UNCALIBRATED, CalibratingRun, RunKind
from .sampler_kind import why_not_calibrated

HOW = say(
    "how_to_calibrate",
    "Calibrating may give closer pictures: turn on calibrate_on_first_run in Apply TokenCache, or run Calibrate "
    "I-Steps, and compare.",
)


@dataclass(frozen=True)
class RunPlaces:
    """The schedule of one run.

    order: of the forecasts, from the calibration; None if there is none.
    words: why the I-steps lie where they do.
    notes: about files that could not be read.
    calibrating: the calibration that the run will give; None for a run that is cached from the start.
    """

    schedule: Schedule
    order: int | None = None
    words: str = ""
    notes: tuple[str, ...] = ()
    calibrating: CalibratingRun | None = None


def automatic_places(
    schedule: AutomaticSchedule,
    kind: RunKind,
    sampler: Any,
    sigmas: Sequence[float],
    scale: Callable[[float], float],
    calibrates: bool,
) -> RunPlaces:
    """The places for a run of a SAMPLER.

    schedule: with the number of I-steps.
    kind: of the run.
    sigmas: (steps + 1,) of the run.
    scale: as in `CalibratingRun`.
    calibrates: whether the run may be computed in full to calibrate, if there is no calibration for it.
    """
    calibrations, notes = kept_calibrations()
    name = best_of(calibrations, kind.fingerprint, kind.sampler, kind.cfg, kind.taus)
    if name is not None:
        found, words = calibrations[name], say("placed_by", "by the calibration {name}", name=name)
        return RunPlaces(schedule.calibrated(found), found.order, words, notes)
    if not calibrates:
        words = say("placed_how", "{known}. {how}", known=UNCALIBRATED, how=HOW)
        return RunPlaces(schedule, words=words, notes=notes)
    if why := why_not_calibrated(sampler, sigmas):
        words = say(
            "placed_without_calibration", "{known}; this run could not provide one: {why}", known=UNCALIBRATED, why=why
        )
        return RunPlaces(schedule, words=words, notes=notes)
    every_step = ExplicitSchedule(tuple(range(len(kind.taus))))
    return RunPlaces(every_step, notes=notes, calibrating=CalibratingRun(kind, sigmas, scale, schedule))


def guidance(guider: Any) -> float:
    """The guider's cfg; 1, as without guidance, if it has none or several."""
    cfg = getattr(guider, "cfg", 1.0)
    return max(0.0, float(cfg)) if isinstance(cfg, (int, float)) else 1.0
