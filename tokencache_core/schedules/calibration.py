"""A calibration: where the I-steps of one model's runs should lie, for each number of them; a small JSON file."""

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
from .placed import PlacedSchedule, carried, same_run

SUFFIX = ".json"
_FIELDS = ("format", "version", "fingerprint", "sampler", "cfg", "taus", "places", "decided", "notes")
FARTHEST = (
    0.15  # mean distance of two runs' noise times, at the same share of the run, for one's places to serve the other
)
GUIDANCE = 1.75  # so many times as much, or as little, guidance is another kind of run


class CalibrationError(ValueError):
    """A file or text that is no calibration of this version; says what is wrong and what to do."""


FORMAT = JsonFormat("calibration", 1, "Calibrate I-Steps or `calibrate`", CalibrationError)


@dataclass(frozen=True)
class PlaceCalibration:
    """taus: the noise times of the steps of the run that it was measured on, falling. places: I-steps of that run by
    how many they are, each list rising from 0; at least one list.

    sampler: of the run, "euler" for Euler's method and what is built upon it. cfg: its guidance. decided: PSNR in dB to
    the whole run of places that were tried on real runs. notes: under which conditions, and what it took, as text.
    """

    fingerprint: Fingerprint
    sampler: str
    cfg: float
    taus: tuple[float, ...]
    places: Mapping[int, tuple[int, ...]]
    decided: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(0 <= tau <= 1 for tau in self.taus) or any(a <= b for a, b in zip(self.taus, self.taus[1:])):
            raise ValueError("the calibration's noise times must fall, between 1 and 0")
        if not self.places:
            raise ValueError("the calibration has no places")
        for count, places in self.places.items():
            PlacedSchedule(places, self.taus)  # refuses what are no I-steps of the run
            if len(places) != count:
                raise ValueError(f"the calibration lists {len(places)} places for {count} I-steps")

    def i_steps(self, count: int, taus: Sequence[float]) -> tuple[int, ...]:
        """`count` I-steps of a run at the noise times `taus`: as found, or carried over from as large a share of the
        run that was measured.
        """
        count = max(1, min(count, len(taus)))
        if count == len(taus):
            return tuple(range(count))
        wanted = count if same_run(self.taus, taus) else count * len(self.taus) / len(taus)
        nearest = min(self.places, key=lambda known: abs(known - wanted))
        return carried(self.places[nearest], self.taus, count, taus)

    def serves(self, fingerprint: Fingerprint, sampler: str, cfg: float, taus: Sequence[float]) -> bool:
        """Whether it was measured on the same weights, kind of sampler and, roughly, noise and guidance."""
        try:
            same = self.fingerprint.compare(fingerprint) == "same"
        except ArchitectureError:
            return False
        guided = max(self.cfg, cfg, 1e-9) / max(1e-9, min(self.cfg, cfg))
        return same and self.sampler == sampler and guided <= GUIDANCE and self.distance(taus) <= FARTHEST

    def distance(self, taus: Sequence[float]) -> float:
        """Mean difference of noise times at the same share of the run."""
        points = [point / 32 for point in range(32)]
        return sum(abs(_at(self.taus, point) - _at(taus, point)) for point in points) / len(points)

    def text(self) -> str:
        """In words."""
        lines = [f"measured on {len(self.taus)} steps of {self.sampler}, guidance {self.cfg:g}"]
        lines += [f"{count} I-steps: {', '.join(map(str, places))}" for count, places in sorted(self.places.items())]
        return "\n".join([*lines, *(f"{name}: {text}" for name, text in self.notes.items())])


def best_of(
    calibrations: Mapping[str, PlaceCalibration],
    fingerprint: Fingerprint,
    sampler: str,
    cfg: float,
    taus: Sequence[float],
) -> str | None:
    """The name of the calibration that serves such a run and is nearest to it; None where there is none."""
    serving = [name for name, each in calibrations.items() if each.serves(fingerprint, sampler, cfg, taus)]
    return min(serving, key=lambda name: (calibrations[name].distance(taus), name), default=None)


def to_json(calibration: PlaceCalibration) -> str:
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
        "places": {str(count): list(places) for count, places in sorted(calibration.places.items())},
        "decided": [{"places": list(places), "psnr_db": round(db, 3)} for places, db in calibration.decided.items()],
        "notes": dict(calibration.notes),
    }
    lines = [f' "{key}": {_value(value)}' for key, value in content.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def from_json(text: str, name: str) -> PlaceCalibration:
    """CalibrationError, quoting `name`, for what is no calibration."""
    return FORMAT.read(text, name, _read)


def load_calibration(file: Path | str) -> PlaceCalibration:
    return FORMAT.load(file, _read)


def save_calibration(calibration: PlaceCalibration, file: Path) -> None:
    with whole_file(file) as part:
        part.write_text(to_json(calibration), encoding="utf-8")


def _at(taus: Sequence[float], share: float) -> float:
    """The noise time at a share of the run, linear between steps; 0 at its end."""
    place = share * len(taus)
    before = int(place)
    then = taus[before + 1] if before + 1 < len(taus) else 0.0
    return taus[before] + (place - before) * (then - taus[before])


def _value(value: Any) -> str:
    """JSON with one line for each entry of an object or list of objects."""
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(each)}" for key, each in value.items()) + "\n }"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"  {json.dumps(each)}" for each in value) + "\n ]"
    return json.dumps(value, allow_nan=False)


def _read(content: Any) -> PlaceCalibration:
    record = Record(content, "the calibration", _FIELDS)
    places = {}
    for count, steps in strict_json.mapping(record.value["places"], "the places").items():
        if not count.isdecimal() or len(count) > 4:
            raise ValueError(f"places are listed by how many they are, not by {strict_json.shown(count)}")
        places[int(count)] = _steps(steps)
    decided = [Record(trial, "a trial", ("places", "psnr_db")) for trial in record.list("decided")]
    notes = strict_json.mapping(record.value["notes"], "the notes")
    cfg = record.number("cfg")
    if not 0 <= cfg < math.inf:
        raise ValueError(f"the calibration's cfg must be 0 or more, not {cfg:g}")
    return PlaceCalibration(
        fingerprint=read_fingerprint(record.value["fingerprint"]),
        sampler=record.text("sampler", 100),
        cfg=cfg,
        taus=record.numbers("taus"),
        places=places,
        decided={_steps(trial.value["places"]): trial.number("psnr_db") for trial in decided},
        notes={
            strict_json.text(key, "a note's name", 100): strict_json.text(note, "a note") for key, note in notes.items()
        },
    )


def _steps(value: Any) -> tuple[int, ...]:
    return tuple(strict_json.whole(step, "an I-step") for step in strict_json.items(value, "a list of I-steps"))
