"""Calibration by the first run (`calibrate_on_first_run`): it is computed in full, and gives the places of the I-steps
of all later runs of its kind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ...tokencache_core.engine.record import Report
from ...tokencache_core.engine.session import Session
from ...tokencache_core.files.fingerprint import Fingerprint
from ...tokencache_core.schedules.automatic import AutomaticSchedule
from ...tokencache_core.schedules.calibration import PlaceCalibration
from ...tokencache_core.schedules.run_record import RunRecorder
from ...tokencache_core.settings import CacheSettings
from ...tokencache_core.tuning.place_proposals import (
    listed_counts,
    orders_beside,
    simulated_order,
    simulated_way,
    tried_counts,
)
from ...tokencache_core.words.message import say
from ..folders.calibration_folder import calibration_name, write_calibration
from .sampler_kind import EULER

UNCALIBRATED = say(
    "placed_by_known_models", "where other models need them, since there is no calibration of this one for such a run"
)
TOLERATED = 1  # largest number of evaluations that are not at a new step of the run; some samplers end with one


@dataclass(frozen=True)
class RunKind:
    """What a calibration is specific to.

    fingerprint: of the model.
    sampler: its kind (see `sampler_kind`).
    cfg: the guidance.
    taus: (steps,), the noise times of the run's steps.
    """

    fingerprint: Fingerprint
    sampler: str
    cfg: float
    taus: tuple[float, ...]


class CalibratingRun:
    """A run that is computed in full to give a calibration, which is written only if the run finishes.

    kind: of the run.
    sigmas: (steps + 1,) of the run.
    scale: from a sigma to what x there is multiplied by before the network is given it.
    default: the schedule of the rest of the run if the run turns out to be unfit for a calibration.
    """

    def __init__(
        self, kind: RunKind, sigmas: Sequence[float], scale: Callable[[float], float], default: AutomaticSchedule
    ) -> None:
        self.kind, self.default, self.recorder = kind, default, RunRecorder(sigmas, scale)
        self.evaluations_between = 0  # that were not at a new step

    @property
    def given_up(self) -> bool:
        return self.evaluations_between > TOLERATED

    def add(self, x: Tensor, clean: Tensor, session: Session) -> None:
        """Record the evaluation that has just ended: the clean x predicted at x, both (B, ...).

        A run whose sampler evaluates between steps cannot calibrate: the rest of it is cached.
        """
        if self.given_up:
            return
        known = len(self.recorder.added)
        self.recorder.saw(x, clean, session.log.evaluations[-1].sigma)
        self.evaluations_between += len(self.recorder.added) == known
        if self.given_up:
            self.recorder.added.clear()
            session.timeline.i_steps = self.default.i_steps(session.timeline.taus)

    def closed(self, report: Report, settings: CacheSettings) -> Report:
        """The finished run's report with a note of the calibration, which has been written to models/tokencache."""
        if self.given_up:
            return replace(
                report,
                placed=say(
                    "placed_without_calibration",
                    "{known}; this run could not provide one: {why}",
                    known=UNCALIBRATED,
                    why=say(
                        "sampler_calls_several_times",
                        "the sampler {sampler} calls the model several times a step",
                        sampler=self.kind.sampler,
                    ),
                ),
            )
        try:
            placed = self._calibrate(report, settings)
        except (ValueError, OSError) as error:
            why = (error.strerror or error) if isinstance(error, OSError) else error.args[0]
            placed = say("placed_failed", "every step, to calibrate, which failed: {error}", error=why)
        return replace(report, placed=placed, teaches=True)

    def _calibrate(self, report: Report, settings: CacheSettings) -> str:
        """Write the calibration; returns where the run's I-steps lay and why, in words."""
        kind, times = self.kind, dict(zip(self.recorder.sigmas, self.kind.taus))
        record = self.recorder.record(times.__getitem__)
        started = time.perf_counter()
        corrected, (count, *_) = kind.sampler == EULER, tried_counts(record.steps)
        by_order = {
            order: simulated_way(record, replace(settings, order=order), corrected, self.default.fading)
            for order in orders_beside(settings.order)
        }
        order = simulated_order(record, settings, corrected, {order: way(count) for order, way in by_order.items()})
        settings = replace(settings, order=order)
        places = {count: by_order[order](count) for count in listed_counts(record.steps)}
        spent = say(
            "placed_in",
            "{search} s on top of the {run} s of the run",
            search=f"{time.perf_counter() - started:.1f}",
            run=f"{report.seconds:.1f}",
        )
        notes = {"latent": " x ".join(map(str, report.latent.size)), "cost": f"no run besides the first, {spent}"}
        calibration = PlaceCalibration(
            kind.fingerprint,
            kind.sampler,
            kind.cfg,
            kind.taus,
            order,
            places,
            notes={**notes, "settings": settings.text()},
        )
        file = write_calibration(calibration, calibration_name(calibration))
        return say(
            "placed_to_calibrate",
            "every step, to calibrate: the next runs take theirs from {file}, which took {spent}",
            file=f"{file.parent.name}/{file.name}",
            spent=spent,
        )
