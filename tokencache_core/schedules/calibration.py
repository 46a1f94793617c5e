"""Calibrations: the best places of I-steps in one model's runs, for each number of I-steps, as a small JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import strict_json
from ..files.fingerprint import ArchitectureError, Fingerprint, read_fingerprint
from ..files.json_format import JsonFormat
from ..files.strict_json import Record
from ..files.whole_file import whole_file
from ..settings import MAX_ORDER
from ..words.message import lines, say
from .placed import PlacedSchedule, carried, same_run

SUFFIX = ".json"
_FIELDS = ("format", "version", "fingerprint", "sampler", "cfg", "taus", "order", "places", "trials", "notes")
MAX_DISTANCE = 0.15  # largest mean difference of two runs' noise times for which one's places still suit the other
MAX_GUIDANCE_RATIO = 1.75  # largest ratio of two runs' guidance, likewise
POINTS = 32  # fractions of two runs at which their noise times are compared


class CalibrationError(ValueError):
    """A file or text that is not a calibration of this version. The message says what is wrong and what to do."""


FORMAT = JsonFormat(
    say("calibration_kind", "calibration"),
    1,
    say("calibration_writers", "Calibrate I-Steps or `calibrate`"),
    CalibrationError,
)


@dataclass(frozen=True)
class Trial:
    """Places of I-steps that were tried in a real run.

    order: of the forecasts between them.
    places: rising from 0.
    psnr_db: PSNR in dB against the full run.
    """

    order: int
    places: tuple[int, ...]
    psnr_db: float


@dataclass(frozen=True)
class PlaceCalibration:
    """The places of I-steps that were measured on one run of a model.

    fingerprint: of the model.
    sampler: of the run; "euler" for Euler's method and samplers based on it.
    cfg: the run's guidance scale.
    taus: the noise times of the run's steps, falling.
    order: of the forecasts that serve the model best in such runs.
    places: lists of I-steps of that run, by their number; each rises from 0. At least one list.
    trials: what was tried in real runs.
    notes: the conditions and the cost of the calibration, as text.
    """

    fingerprint: Fingerprint
    sampler: str
    cfg: float
    taus: tuple[float, ...]
    order: int
    places: Mapping[int, tuple[int, ...]]
    trials: tuple[Trial, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if not all(0 <= tau <= 1 for tau in self.taus) or any(a <= b for a, b in zip(self.taus, self.taus[1:])):
            raise ValueError("the calibration's noise times must fall, between 1 and 0")
        if self.order not in range(MAX_ORDER + 1):
            raise ValueError(f"the calibration's order must be from 0 to {MAX_ORDER}, not {self.order}")
        if not self.places:
            raise ValueError("the calibration has no places")
        for count, places in self.places.items():
            PlacedSchedule(places, self.taus)  # checks them
            if len(places) != count:
                raise ValueError(f"the calibration lists {len(places)} places for {count} I-steps")

    def i_steps(self, count: int, taus: Sequence[float]) -> tuple[int, ...]:
        """`count` I-steps of a run at the noise times `taus`.

        In the run that was measured, the places as found; in other runs, those transferred from a list with about the
        same share of I-steps.
        """
        count = max(1, min(count, len(taus)))
        if count == len(taus):
            return tuple(range(count))
        wanted = count if same_run(self.taus, taus) else count * len(self.taus) / len(taus)
        nearest = min(self.places, key=lambda known: abs(known - wanted))
        return carried(self.places[nearest], self.taus, count, taus)

    def serves(self, fingerprint: Fingerprint, sampler: str, cfg: float, taus: Sequence[float]) -> bool:
        """Whether it was measured on the same weights and kind of sampler, with similar noise times and guidance."""
        try:
            same = self.fingerprint.compare(fingerprint) == "same"
        except ArchitectureError:
            return False
        ratio = max(self.cfg, cfg, 1e-9) / max(1e-9, min(self.cfg, cfg))
        alike = same and self.sampler == sampler and ratio <= MAX_GUIDANCE_RATIO
        return alike and self.distance(taus) <= MAX_DISTANCE

    def distance(self, taus: Sequence[float]) -> float:
        """Mean absolute difference of the noise times at equal fractions of the two runs."""
        points = [point / POINTS for point in range(POINTS)]
        return sum(abs(_at(self.taus, point) - _at(taus, point)) for point in points) / len(points)

    def text(self) -> str:
        """The calibration as text."""
        measured = say(
            "calibration_measured",
            "measured on {steps} steps of {sampler}, guidance {cfg}: forecasts of order {order}",
            steps=len(self.taus),
            sampler=self.sampler,
            cfg=f"{self.cfg:g}",
            order=self.order,
        )
        places = [
            say("calibration_places", "{count} I-steps: {places}", count=count, places=", ".join(map(str, places)))
            for count, places in sorted(self.places.items())
        ]
        return lines(measured, *places, *(f"{name}: {text}" for name, text in self.notes.items()))


def best_of(
    calibrations: Mapping[str, PlaceCalibration],
    fingerprint: Fingerprint,
    sampler: str,
    cfg: float,
    taus: Sequence[float],
) -> str | None:
    """The name of the calibration that serves such a run and is closest to it; None if there is none."""
    serving = [name for name, each in calibrations.items() if each.serves(fingerprint, sampler, cfg, taus)]
    return min(serving, key=lambda name: (calibrations[name].distance(taus), name), default=None)


def to_json(calibration: PlaceCalibration) -> str:
    """The calibration as JSON text, with one line per list of places."""
    content = {
        "format": FORMAT.name,
        "version": FORMAT.version,
        "fingerprint": {
            "architecture": calibration.fingerprint.architecture,
            "weights": calibration.fingerprint.weights,
        },
        "sampler": calibration.sampler,
        "cfg": calibration.cfg,
        "taus": [round(tau, 6) for tau in calibration.taus],
        "order": calibration.order,
        "places": {str(count): list(places) for count, places in sorted(calibration.places.items())},
        "trials": [
            {"order": trial.order, "places": list(trial.places), "psnr_db": round(trial.psnr_db, 3)}
            for trial in calibration.trials
        ],
        "notes": dict(calibration.notes),
    }
    fields = [f' "{key}": {_value(value)}' for key, value in content.items()]
    return "{\n" + ",\n".join(fields) + "\n}\n"


def from_json(text: str, name: str) -> PlaceCalibration:
    """Read a calibration. CalibrationError, which quotes `name`, if the text is not one."""
    return FORMAT.read(text, name, _read)


def load_calibration(file: Path | str) -> PlaceCalibration:
    return FORMAT.load(file, _read)


def save_calibration(calibration: PlaceCalibration, file: Path) -> None:
    with whole_file(file) as part:
        part.write_text(to_json(calibration), encoding="utf-8")


def _at(taus: Sequence[float], share: float) -> float:
    """The noise time at a fraction of the run, interpolated linearly between steps; 0 at its end."""
    place = share * len(taus)
    before = int(place)
    then = taus[before + 1] if before + 1 < len(taus) else 0.0
    return taus[before] + (place - before) * (then - taus[before])


def _value(value: object) -> str:
    """JSON with one line for each entry of an object or list of objects."""
    if strict_json.is_object(value) and value:
        return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(each)}" for key, each in value.items()) + "\n }"
    if strict_json.is_list(value) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"  {json.dumps(each)}" for each in value) + "\n ]"
    return json.dumps(value, allow_nan=False)


def _read(content: Any) -> PlaceCalibration:
    record = Record(content, "the calibration", _FIELDS)
    places: dict[int, tuple[int, ...]] = {}
    for count, steps in strict_json.mapping(record.value["places"], "the places").items():
        if not count.isdecimal() or len(count) > 4:
            raise ValueError(f"places must be listed under their number, not under {strict_json.shown(count)}")
        places[int(count)] = _steps(steps)
    trials = [Record(trial, "a trial", ("order", "places", "psnr_db")) for trial in record.list("trials")]
    notes = strict_json.mapping(record.value["notes"], "the notes")
    cfg = record.number("cfg")
    if not 0 <= cfg < math.inf:
        raise ValueError(f"the calibration's cfg must be 0 or more, not {cfg:g}")
    return PlaceCalibration(
        fingerprint=read_fingerprint(record.value["fingerprint"]),
        sampler=record.text("sampler", 100),
        cfg=cfg,
        taus=record.numbers("taus"),
        order=record.whole("order"),
        places=places,
        trials=tuple(
            Trial(trial.whole("order"), _steps(trial.value["places"]), trial.number("psnr_db")) for trial in trials
        ),
        notes={
            strict_json.text(key, "a note's name", 100): strict_json.text(note, "a note") for key, note in notes.items()
        },
    )


def _steps(value: Any) -> tuple[int, ...]:
    return tuple(strict_json.whole(step, "an I-step") for step in strict_json.items(value, "a list of I-steps"))
