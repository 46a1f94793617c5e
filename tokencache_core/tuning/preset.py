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
from ..words.message import lines, say

GOALS = ("speed-up", "psnr", "ssim")
SUFFIX = ".json"
# in the order in which they are written: what is long and not for people comes last
_FIELDS = ("format", "version", "goal", "i_steps", "settings", "predicted", "measured", "notes", "taus", "fingerprint")
_OPTIONAL = ("default",)
FASTER = 1.03  # times as fast as the default: less may be the clock's noise


class PresetError(ValueError):
    """A file or text is not a preset of this version. The message says what is wrong and what to do."""


FORMAT = JsonFormat(say("preset_kind", "preset"), 1, say("preset_writers", "Tune TokenCache or `tune`"), PresetError)


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
        ssim = "" if self.ssim is None else f", SSIM {self.ssim:.4f}"
        if self.samples == 1:  # which leaves its error unknown
            return say(
                "result_of_one", "{likeness} (1 sample)", likeness=f"{self.speedup:.2f}x, {self.psnr_db:.1f} dB{ssim}"
            )
        return say(
            "result",
            "{likeness} ({samples} samples)",
            likeness=f"{self.speedup:.2f}x, {self.psnr_db:.1f} +- {self.psnr_error:.1f} dB{ssim}",
            samples=self.samples,
        )


@dataclass(frozen=True)
class Preset:
    """The result of a tuning.

    settings: of the cache.
    i_steps: counted from 0, of a run whose steps lie at the noise times `taus` (sampling/noise_time.py).
    fingerprint: of the model.
    goal: of the tuning.
    predicted: on the samples that the settings were chosen on.
    measured: on other samples, which played no part in the choice; None if the tuning was stopped before that.
    default: the default settings on the same samples; None if they did not reach the goal.
    notes: the conditions of the tuning, as text.
    """

    settings: CacheSettings
    i_steps: tuple[int, ...]
    taus: tuple[float, ...]
    fingerprint: Fingerprint
    goal: Goal
    predicted: Result
    measured: Result | None = None
    default: Result | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.schedule()  # ValueError for I-steps outside the run

    def schedule(self) -> PlacedSchedule:
        return PlacedSchedule(self.i_steps, self.taus)

    @property
    def verdict(self) -> str:
        """Whether the preset is worth loading, in words; "" if that was not measured."""
        if self.measured is None:
            return ""
        if self.default is None:
            return say("preset_only", "worth loading: the default settings do not reach {goal}", goal=self.goal)
        if self.goal.kind != "speed-up":
            if self.measured.speedup >= FASTER * self.default.speedup:
                faster = f"{self.measured.speedup / self.default.speedup:.2f}"
                return say(
                    "preset_faster", "worth loading: {times} times as fast as the default settings", times=faster
                )
            return say("preset_no_faster", "not worth loading: the default settings are as fast")
        gain = self.measured.psnr_db - self.default.psnr_db
        if gain > math.hypot(self.measured.psnr_error, self.default.psnr_error):
            return say(
                "preset_closer",
                "worth loading: {db} dB closer than the default settings at that speed",
                db=f"{gain:.1f}",
            )
        return say("preset_no_closer", "not worth loading: the default settings are as close at that speed")

    def text(self) -> str:
        not_yet = say("preset_not_yet", "not yet")
        return lines(
            say("preset_goal", "goal: {goal}", goal=self.goal),
            self.verdict,
            say(
                "preset_settings",
                "{count} of {steps} steps are I-steps ({i_steps}); {settings}",
                count=len(self.i_steps),
                steps=len(self.taus),
                i_steps=", ".join(map(str, self.i_steps)),
                settings=self.settings.text(),
            ),
            say("preset_predicted", "predicted: {result}", result=self.predicted.text()),
            say(
                "preset_measured",
                "measured on other samples: {result}",
                result=not_yet if self.measured is None else self.measured.text(),
            ),
            say("preset_default", "the default settings on the same samples: {result}", result=self.default.text())
            if self.default
            else "",
            *(f"{name}: {text}" for name, text in self.notes.items()),
        )


def to_json(preset: Preset) -> str:
    """The preset as text, one field a line: short enough to paste, with the fingerprint at its end."""
    content = {"format": FORMAT.name, "version": FORMAT.version, **asdict(preset), "notes": dict(preset.notes)}
    fields = [name for name in (*_OPTIONAL, *_FIELDS) if content[name] is not None or name not in _OPTIONAL]
    fields.sort(key=lambda name: _FIELDS.index("notes") if name in _OPTIONAL else _FIELDS.index(name))
    written = [f"{json.dumps(name)}: {json.dumps(content[name], allow_nan=False)}" for name in fields]
    return "{\n" + ",\n".join(written) + "\n}\n"


def from_json(text: str, name: str) -> Preset:
    """The preset in `text`; PresetError, which quotes `name`, if the text is not one."""
    return FORMAT.read(text, name, _read)


def preset_of_text(text: str) -> Preset:
    """The preset in a text that someone has pasted; PresetError says what is missing."""
    if not text.strip():
        raise PresetError(
            say(
                "preset_text_empty",
                "the text is empty: paste what Tune TokenCache puts out as json, or choose a file above it",
            )
        )
    return from_json(text, say("preset_text", "the text"))


def load_preset(file: Path | str) -> Preset:
    return FORMAT.load(file, _read)


def save_preset(preset: Preset, file: Path) -> None:
    with whole_file(file) as part:
        part.write_text(to_json(preset), encoding="utf-8")


def _read(content: Any) -> Preset:
    record = Record(content, "the preset", _FIELDS, _OPTIONAL)
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
        default=_result(record.value["default"]) if "default" in record else None,
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
