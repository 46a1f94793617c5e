"""Files that were made to be wrong, at random: what each loader must answer to them.

A file is read, or refused by one line that names it. Whatever it holds, nothing is executed, nothing else is written,
and neither memory nor time grows beyond what the file's size allows.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tiny_dit import tiny_dit, tiny_dit_file
from tiny_flux_model import tiny_text_to_image
from tiny_predictor import tiny_predictor_file

from tokencache_core.dit.checkpoint import ModelFileError, load_dit
from tokencache_core.files.fingerprint import Fingerprint
from tokencache_core.flux.file import FluxFileError, load_flux, save_flux
from tokencache_core.predictor.file import PredictorFileError, read_trained_cache
from tokencache_core.schedules.calibration import (
    CalibrationError,
    PlaceCalibration,
    Trial,
    load_calibration,
    save_calibration,
)
from tokencache_core.tuning.preset import PresetError, load_preset

LONGEST = 5.0  # seconds of a process that a file may take
_PRESET = Path(__file__).resolve().parents[2] / "reference" / "emoji-dit-3x.json"
_SMALL = {"width": 16, "depth": 1, "heads": 1, "input_size": 4, "num_classes": 2}


@dataclass(frozen=True)
class Loader:
    """suffix: of its files. write: a good one. read: one. refusal: what it raises."""

    suffix: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    refusal: type[Exception]


LOADERS = {
    "predictor": Loader(".safetensors", tiny_predictor_file, read_trained_cache, PredictorFileError),
    "preset": Loader(".json", lambda path: path.write_bytes(_PRESET.read_bytes()), load_preset, PresetError),
    "calibration": Loader(
        ".json", lambda path: save_calibration(_calibration(), path), load_calibration, CalibrationError
    ),
    "DiT": Loader(
        ".safetensors",
        lambda path: tiny_dit_file(path, {"class_names": '["a", "b"]'}, **_SMALL),
        load_dit,
        ModelFileError,
    ),
    "DiT, .pt": Loader(
        ".pt", lambda path: torch.save(tiny_dit(**{**_SMALL, "width": 64}).state_dict(), path), load_dit, ModelFileError
    ),
    "text-to-image": Loader(
        ".safetensors", lambda path: save_flux(tiny_text_to_image(), path, licence="CC0"), load_flux, FluxFileError
    ),
}


def _calibration() -> PlaceCalibration:
    return PlaceCalibration(
        fingerprint=Fingerprint("DiT: 3 x DiTBlock", "3f80bf80" * 64),
        sampler="euler",
        cfg=4.0,
        taus=tuple(1 - step / 10 for step in range(10)),
        places={1: (0,), 3: (0, 1, 6)},
        order=1,
        trials=(Trial(1, (0, 1, 6), 31.25),),
        notes={"model": "tiny"},
    )


def answer(loader: Loader, path: Path) -> str:
    """ "read" or "refused"; AssertionError for any other answer."""
    beside, started = sorted(path.parent.iterdir()), time.process_time()
    try:
        loader.read(path)
    except loader.refusal as error:
        text, said = str(error), "refused"
        assert path.name in text and "\n" not in text and len(text) < 2000, f"an unclear refusal: {text[:300]!r}"
    else:
        said = "read"
    assert time.process_time() - started < LONGEST, "it took too long"
    assert sorted(path.parent.iterdir()) == beside, "something was written"
    return said


def damaged(data: bytes, draw: random.Random) -> bytes:
    """`data`, changed in one to three ways."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        data = draw.choice(_WAYS)(data, draw)
    return data


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _flipped(data: bytes, draw: random.Random) -> bytes:
    out = bytearray(data)
    within = draw.choice((len(out), min(len(out), 2000)))
    for _ in range(draw.randint(1, 8) if within else 0):
        out[draw.randrange(within)] ^= 1 << draw.randrange(8)
    return bytes(out)


def _inserted(data: bytes, draw: random.Random) -> bytes:
    at, length = draw.randrange(len(data) + 1), draw.randint(1, 64)
    some = draw.choice((draw.randbytes(length), b"\xff" * length, b"\0" * length, data[at : at + length]))
    return data[:at] + some + data[at:]


def _not_a_number(data: bytes, draw: random.Random) -> bytes:
    """Where the weights mostly are."""
    out = bytearray(data)
    at = draw.randrange(len(out) // 2, len(out)) // 4 * 4 if len(out) > 8 else 0
    out[at : at + 4] = b"\xff" * len(out[at : at + 4])
    return bytes(out)


def _header_length(data: bytes, draw: random.Random) -> bytes:
    length = draw.choice((0, 1, len(data), 2**31, 2**40, 2**63 - 1, 2**64 - 1, draw.randrange(2**20)))
    return length.to_bytes(8, "little") + data[8:]


def _number(data: bytes, draw: random.Random) -> bytes:
    """One of the numbers in the text at its beginning becomes another."""
    places = [match.span() for match in re.finditer(rb"-?\d+(\.\d+)?(e-?\d+)?", data[:50_000])]
    if not places:
        return data
    start, end = draw.choice(places)
    other = draw.choice((b"-1", b"0", b"1", b"2147483648", b"9" * 30, b"9" * 5000, b"1e999", b"NaN", b'"x"', b"null"))
    return data[:start] + other + data[end:]


def _json(data: bytes, draw: random.Random) -> bytes:
    """One value in the JSON text, of the file or of its header, becomes another."""
    header = int.from_bytes(data[:8], "little") if data[:1] != b"{" else 0
    text = data[8 : 8 + header] if header else data
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return data
    changed = json.dumps(_changed(value, draw)).replace('"\\u0001bomb"', draw.choice(_BOMBS)).encode()
    return len(changed).to_bytes(8, "little") + changed + data[8 + header :] if header else changed


_BOMBS = ("[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000, "[" * 30_000, '"' + "x" * 300_000 + '"')
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    2**63,
    "",
    "F64",
    "I32",
    "BOOL",
    "F8_E4M3",
    "../../x",
    "/etc/passwd",
    "\x00\x1b[31m",
    "\ud800",
    [],
    {},
    [[]] * 50,
    [2**40, 2**40],
    {"a": 1},
    "\x01bomb",
)


def _changed(value: Any, draw: random.Random) -> Any:
    """`value` with one part of it, chosen at random, replaced, removed, doubled or renamed."""
    if isinstance(value, str) and value[:1] == "{" and draw.random() < 0.9:  # JSON within a text
        try:
            return json.dumps(_changed(json.loads(value), draw)).replace('"\\u0001bomb"', draw.choice(_BOMBS))
        except (ValueError, RecursionError):
            return draw.choice(_VALUES)
    if not isinstance(value, (dict, list)) or not value or draw.random() < 0.15:
        return draw.choice(_VALUES)
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    place, how = draw.choice(places), draw.random()
    if isinstance(value, dict) and "__metadata__" in value and draw.random() < 0.5:
        place, how = "__metadata__", 0.0
    out = dict(value) if isinstance(value, dict) else list(value)
    if how < 0.7:
        out[place] = _changed(out[place], draw)
    elif how < 0.85:
        del out[place]
    elif isinstance(out, dict):
        out[draw.choice(("x", "version", "../x", str(place) * 40, "blocks.99999999999.a"))] = out[place]
    else:
        out.append(out[place])
    return out


_WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _cut,
    _flipped,
    _inserted,
    _not_a_number,
    _header_length,
    _number,
    _json,
    _json,
    _json,
)
