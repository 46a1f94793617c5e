"""The calibrations in models/tokencache. They are read anew for every run, so that added and deleted files count."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import folder_paths

from ...tokencache_core.schedules.calibration import (
    FORMAT,
    SUFFIX,
    CalibrationError,
    PlaceCalibration,
    load_calibration,
    save_calibration,
)
from ...tokencache_core.words.message import say
from .models_folder import FOLDER, file_to_write


def kept_calibrations() -> tuple[dict[str, PlaceCalibration], tuple[str, ...]]:
    """All calibrations by name (the path within models/tokencache), and complaints about those that cannot be read.

    Presets, which are in the same folder, are skipped.
    """
    kept, complaints = {}, []
    for folder in map(Path, folder_paths.get_folder_paths(FOLDER)):
        for file in sorted(folder.rglob(f"*{SUFFIX}")):
            name = file.relative_to(folder).as_posix()
            if name in kept:
                continue
            try:
                kept[name] = load_calibration(file)
            except CalibrationError as error:
                if _claims_to_be_one(file):
                    why = str(error).replace(str(file), name)
                    complaints.append(say("calibration_skipped", "a calibration was skipped: {why}", why=why))
    return kept, tuple(complaints)


def calibration_name(calibration: PlaceCalibration) -> str:
    """A file name such as Flux_euler_cfg1_1a2b3c: the model's family, the sampler, the guidance, and a hash of the
    fingerprint and the noise times.
    """
    family = calibration.fingerprint.architecture.partition(":")[0]
    specific = f"{calibration.fingerprint}{[round(tau, 4) for tau in calibration.taus]}"
    parts = (family, calibration.sampler, f"cfg{calibration.cfg:g}", hashlib.sha256(specific.encode()).hexdigest()[:6])
    return "_".join(re.sub(r"[^\w.-]", "", part) for part in parts)


def write_calibration(calibration: PlaceCalibration, name: str) -> Path:
    """Write to a new file with this name, and a number if it is taken; returns its path."""
    file = file_to_write(name, SUFFIX)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_calibration(calibration, file)
    return file


def _claims_to_be_one(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return FORMAT.name.encode() in opened.read(1000)
    except OSError:
        return False
