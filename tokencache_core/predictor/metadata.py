"""The metadata of a predictor file: one JSON text, written from a trained cache and read back strictly.

It also lists the file's tensors with their shapes, so that a missing one is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..files import strict_json
from ..files.fingerprint import read_fingerprint
from ..files.json_format import NewerFormatError
from ..files.strict_json import Record
from ..settings import CacheSettings
from .trained_cache import ImportanceCurve, TrainedCache, TrainingPoint

VERSION = 1
MAX_DIMENSIONS = 8
MAX_CHOICE = 40  # characters of a word such as "stale"
FIELDS = (
    "version",
    "fingerprint",
    "settings",
    "interval",
    "shares",
    "predictor",
    "repair",
    "calibration",
    "log",
    "notes",
    "tensors",
)


@dataclass(frozen=True)
class PredictorMetadata:
    """A trained cache without its tensors.

    fields: the arguments of TrainedCache that need no tensors.
    kind, every_step: of the Cache Predictor; None and False if there is none.
    rank, alpha: of the LoRA repair; None if there is none.
    shapes: of all tensors, by their keys in the file.
    """

    fields: Mapping[str, Any]
    kind: str | None
    every_step: bool
    rank: int | None
    alpha: float | None
    shapes: Mapping[str, tuple[int, ...]]


def to_text(trained: TrainedCache, shapes: Mapping[str, tuple[int, ...]]) -> str:
    predictor, repair, calibration = trained.predictor, trained.repair, trained.calibration
    return json.dumps(
        {
            "version": VERSION,
            "fingerprint": asdict(trained.fingerprint),
            "settings": asdict(trained.settings),
            "interval": trained.interval,
            "shares": list(trained.shares),
            "predictor": None if predictor is None else {"kind": predictor.kind, "every_step": predictor.every_step},
            "repair": None if repair is None else {"rank": repair.rank, "alpha": repair.alpha},
            "calibration": None if calibration is None else asdict(calibration),
            "log": [[point.iteration, point.seconds, point.loss, point.held_out] for point in trained.log],
            "notes": dict(trained.notes),
            "tensors": {key: list(shape) for key, shape in sorted(shapes.items())},
        }
    )


def from_text(text: str) -> PredictorMetadata:
    """The metadata in `text`; the message of the ValueError says what is wrong with them."""
    content = strict_json.parsed(text)
    _check_version(content)
    record = Record(content, "the record", FIELDS)
    predictor = (
        None
        if record.value["predictor"] is None
        else Record(record.value["predictor"], "predictor", ("kind", "every_step"))
    )
    repair = None if record.value["repair"] is None else Record(record.value["repair"], "repair", ("rank", "alpha"))
    return PredictorMetadata(
        fields={
            "settings": read_settings(record.value["settings"]),
            "interval": record.whole("interval", 1),
            "fingerprint": read_fingerprint(record.value["fingerprint"]),
            "shares": record.numbers("shares"),
            "calibration": _calibration(record.value["calibration"]),
            "log": tuple(_training_point(line) for line in record.list("log")),
            "notes": _notes(record.value["notes"]),
        },
        kind=None if predictor is None else predictor.text("kind", MAX_CHOICE),
        every_step=predictor is not None and predictor.flag("every_step"),
        rank=None if repair is None else repair.whole("rank", 1),
        alpha=None if repair is None else repair.number("alpha"),
        shapes=_shapes(record.value["tensors"]),
    )


def _check_version(content: Any) -> None:
    if not isinstance(content, dict) or "version" not in content:
        raise ValueError("it states no format version")
    version = strict_json.whole(content["version"], "its format version", 1)
    if version > VERSION:
        raise NewerFormatError(f"its format is {version}, newer than the {VERSION} known here: update TokenCache")


def read_settings(value: Any) -> CacheSettings:
    """The settings in a file; those that it leaves out take their defaults."""
    defaults = {field.name: field.default for field in fields(CacheSettings)}
    record = Record(value, "settings", (), defaults)
    read = {bool: record.flag, float: record.number, int: record.whole, str: lambda key: record.text(key, MAX_CHOICE)}
    values: dict[str, Any] = {key: read[type(default)](key) for key, default in defaults.items() if key in record}
    return CacheSettings(**values)


def _calibration(value: Any) -> ImportanceCurve | None:
    if value is None:
        return None
    record = Record(value, "calibration", ("taus", "importance", "samples"))
    return ImportanceCurve(record.numbers("taus"), record.numbers("importance"), record.whole("samples", 1))


def _training_point(value: Any) -> TrainingPoint:
    """The point that a line [iteration, seconds, loss, held-out error or null] describes."""
    line = strict_json.items(value, "a line of the log")
    if len(line) != 4:
        raise ValueError(f"a line of the log must have 4 values, not {len(line)}")
    seconds, loss = (strict_json.number(part, "a line of the log") for part in line[1:3])
    held_out = None if line[3] is None else strict_json.number(line[3], "a held-out error of the log")
    return TrainingPoint(strict_json.whole(line[0], "an iteration of the log"), seconds, loss, held_out)


def _notes(value: Any) -> dict[str, str]:
    notes = strict_json.mapping(value, "notes")
    return {key: strict_json.text(note, f"the note {strict_json.shown(key)}") for key, note in notes.items()}


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    return {key: _shape(sizes, strict_json.shown(key)) for key, sizes in strict_json.mapping(value, "tensors").items()}


def _shape(value: Any, key: str) -> tuple[int, ...]:
    sizes = strict_json.items(value, f"the shape of {key}")
    if len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"the shape of {key} has {len(sizes)} dimensions, more than {MAX_DIMENSIONS}")
    return tuple(strict_json.whole(size, f"the shape of {key}", 1) for size in sizes)
