"""A run that is computed whole so that all later ones know where their I-steps should lie (`calibrate on the first
run`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ...tokencache_core.engine.record import Report
from ...tokencache_core.engine.session import Session
from ...tokencache_core.files.fingerprint import Fingerprint
from ...tokencache_core.schedules.automatic import AutomaticSchedule
from ...tokencache_core.schedules.calibration import PlaceCalibration
from ...tokencache_core.schedules.run_record import RunRecorder
from ...tokencache_core.settings import CacheSettings
from ...tokencache_core.tuning.place_proposals import simulated_places
from ..folders.calibration_folder import calibration_name, write_calibration
from .sampler_kind import EULER

UNCALIBRATED = "where known models have them, because there is no calibration yet of this model in such a run"
TOLERATED = 1  # evaluations elsewhere than at a new step of the run; some samplers end with one


@dataclass(frozen=True)
class RunKind:
    """By what a calibration of a run is told from others. taus: (steps,), the noise times of the run's steps."""

    fingerprint: Fingerprint
    sampler: str
    cfg: float
    taus: tuple[float, ...]


class Lesson:
    """What the run that is under way has taught. Nothing of it is kept unless the run comes to its end."""

    def __init__(self, kind: RunKind, sigmas: Sequence[float], default: AutomaticSchedule) -> None:
        self.kind, self.default, self.recorder = kind, default, RunRecorder(sigmas)
        self.elsewhere = 0

    @property
    def given_up(self) -> bool:
        return self.elsewhere > TOLERATED

    def saw(self, x: Tensor, clean: Tensor, session: Session) -> None:
        """The evaluation that has just ended, at x (B, ...), which predicted `clean`. A sampler that evaluates between
        steps teaches nothing: the rest of its run is cached.
        """
        if self.given_up:
            return
        known = len(self.recorder.directions)
        self.recorder.saw(x, clean, session.log.evaluations[-1].sigma)
        self.elsewhere += len(self.recorder.directions) == known
        if self.given_up:
            self.recorder.directions.clear()
            session.timeline.i_steps = self.default.i_steps(session.timeline.taus)

    def closed(self, report: Report, settings: CacheSettings) -> Report:
        """The finished run's report, which says what it has taught. That is in models/tokencache by now."""
        if self.given_up:
            return replace(
                report,
                placed=f"{UNCALIBRATED}, and this run could not be one: the sampler {self.kind.sampler} calls the "
                "model several times a step",
            )
        try:
            placed = self._taught(report, settings)
        except (ValueError, OSError) as error:
            placed = f"every step, to calibrate, but nothing came of it: {error}"
        return replace(report, placed=placed, teaches=True)

    def _taught(self, report: Report, settings: CacheSettings) -> str:
        kind, times = self.kind, dict(zip(self.recorder.sigmas, self.kind.taus))
        record = self.recorder.record(times.__getitem__)
        started = time.perf_counter()
        places = simulated_places(record, settings, corrected=kind.sampler == EULER)
        spent = f"{time.perf_counter() - started:.1f} s beside the {report.seconds:.1f} s of the run"
        notes = {"latent": " x ".join(map(str, report.latent.size)), "cost": f"no run beside the first, {spent}"}
        calibration = PlaceCalibration(
            kind.fingerprint, kind.sampler, kind.cfg, kind.taus, places, notes={**notes, "settings": settings.text()}
        )
        file = write_calibration(calibration, calibration_name(calibration))
        return (
            f"every step, to calibrate: the next runs have theirs by {file.parent.name}/{file.name}, found in {spent}"
        )
