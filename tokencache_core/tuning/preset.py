"""A preset: a small JSON file with the settings that a tuning found for one model, and their predicted and measured
results.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..files import strict_json
from ..files.fingerprint import Fingerprint, read_fingerprint
from ..files.json_format import JsonFormat
from ..files.strict_json import Record
from ..files.whole_file import whole_file
from ..predictor.metadata import read_settings
from ..schedules.placed import PlacedSchedule
from ..settings import CacheSettings

GOALS = ("speed-up", "psnr", "ssim")
SUFFIX = ".json"
_FIELDS = ("format", "version", "fingerprint", "settings", "i_steps", "taus", "goal", "predicted", "measured", "notes")


class PresetError(ValueError):
    """A file or text is not a preset of this version: says what is wrong and what to do."""


FORMAT = JsonFormat("preset", 1, "Tune TokenCache or `tune`", PresetError)


@dataclass(frozen=True)
class Goal:
    """The goal of a tuning: a speed-up by the clock, or a floor for PSNR (dB) or SSIM against the full run.

    kind: one of GOALS.
    value: the speed-up or the floor.
    """

    kind: str
    value: float

    def __post_init__(self) -> None:
        if self.kind not in GOALS:
            raise ValueError(f"the goal must be one of {', '.join(GOALS)}, not {self.kind!r}")
        least, most = {"speed-up": (1, 1000), "psnr": (0, 100), "ssim": (0, 1)}[self.kind]
        if not least < self.value <= most:
            raise ValueError(f"a goal in {self.kind} must be above {least} and at most {most}, not {self.value:g}")

    def __str__(self) -> str:
        return {"speed-up": f"{self.value:g}x", "psnr": f"{self.value:g} dB", "ssim": f"SSIM {self.value:g}"}[self.kind]


@dataclass(frozen=True)
class Result:
    """A speed-up by the clock and the likeness to the full run.

    psnr_db, psnr_error: mean over `samples`, and its standard error, in dB.
    ssim: mean; None for latents.
    """

    speedup: float
    psnr_db: float
    psnr_error: float
    ssim: float | None
    samples: int

    def __post_init__(self) -> None:
        numbers = (self.speedup, self.psnr_db, self.psnr_error, self.ssim or 0.0)
        if not all(math.isfinite(number) for number in numbers) or self.speedup <= 0 or self.samples < 1:
            raise ValueError("a result must have finite numbers and at least one sample")

    def text(self) -> str:
        likeness = f"{self.speedup:.2f}x, {self.psnr_db:.1f} +- {self.psnr_error:.1f} dB"
        return likeness + ("" if self.ssim is None else f", SSIM {self.ssim:.4f}") + f" ({self.samples} samples)"


@dataclass(frozen=True)
class Preset:
    """The result of a tuning.

    settings: of the cache.
    i_steps: counted from 0, of a run whose steps lie at the noise times `taus` (sampling/noise_time.py).
    fingerprint: of the model.
    goal: of the tuning.
    predicted: on the samples that the settings were chosen on.
    measured: on other samples, which played no part in the choice; None if the tuning was stopped before.
    notes: the conditions of the tuning, as text.
    """

    settings: CacheSettings
    i_steps: tuple[int, ...]
    taus: tuple[float, ...]
    fingerprint: Fingerprint
    goal: Goal
    predicted: Result
    measured: Result | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.schedule()  # ValueError for I-steps outside the run

    def schedule(self) -> PlacedSchedule:
        return PlacedSchedule(self.i_steps, self.taus)

    def text(self) -> str:
        lines = [
            f"goal: {self.goal}",
            f"{len(self.i_steps)} of {len(self.taus)} steps are I-steps ({', '.join(map(str, self.i_steps))}); "
            f"{self.settings.text()}",
            f"predicted: {self.predicted.text()}",
            f"measured on other samples: {'not yet' if self.measured is None else self.measured.text()}",
            *(f"{name}: {text}" for name, text in self.notes.items()),
        ]
        return "\n".join(lines)


def to_json(preset: Preset) -> str:
    content = {"format": FORMAT.name, "version": FORMAT.version, **asdict(preset), "notes": dict(preset.notes)}
    return json.dumps({key: content[key] for key in _FIELDS}, indent=1, allow_nan=False) + "\n"


def from_json(text: str, name: str) -> Preset:
    """The preset in `text`; PresetError, with `name` in it, if there is none."""
    return FORMAT.read(text, name, _read)


def load_preset(file: Path | str) -> Preset:
    return FORMAT.load(file, _read)


def save_preset(preset: Preset, file: Path) -> None:
    with whole_file(file) as part:
        part.write_text(to_json(preset), encoding="utf-8")


def _read(content: Any) -> Preset:
    record = Record(content, "the preset", _FIELDS)
    goal = Record(record.value["goal"], "the goal", ("kind", "value"))
    notes = strict_json.mapping(record.value["notes"], "the notes")
    return Preset(
        settings=read_settings(record.value["settings"]),
        taus=record.numbers("taus"),
        i_steps=tuple(strict_json.whole(step, "an I-step") for step in record.list("i_steps")),
        fingerprint=read_fingerprint(record.value["fingerprint"]),
        goal=Goal(goal.text("kind", 40), goal.number("value")),
        predicted=_result(record.value["predicted"]),
        measured=None if record.value["measured"] is None else _result(record.value["measured"]),
        notes={
            strict_json.text(key, "a note's name", 100): strict_json.text(note, "a note") for key, note in notes.items()
        },
    )


def _result(value: Any) -> Result:
    record = Record(value, "a result", ("speedup", "psnr_db", "psnr_error", "ssim", "samples"))
    ssim = None if record.value["ssim"] is None else record.number("ssim")
    return Result(
        record.number("speedup"),
        record.number("psnr_db"),
        record.number("psnr_error"),
        ssim,
        record.whole("samples", 1),
    )
