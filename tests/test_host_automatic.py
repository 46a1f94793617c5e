"""The schedule of whoever connects none: places by a calibration that lies in models/tokencache, and a first run that becomes one."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest
import torch
from tiny_models import TinyModel, tiny_dit, tiny_flux
from tokencache_pack.nodes.nodes_cache import ApplyTokenCache, IStepScheduler
from tokencache_pack.tokencache_core.automatic_schedule import usual_count
from tokencache_pack.tokencache_core.place_calibration import load_calibration

APPLY = {"cache_ratio": 1.0, "forecast_order": 2, "last_blocks": 0, "context": "stale", "score": "staleness", "shares": "early"}
STEPS = 8


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/tokencache, and nothing in it."""
    place = tmp_path / "tokencache"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "tokencache", ([str(place)], {".safetensors", ".json"}))
    return place


@pytest.fixture
def tiny(tmp_path: Path) -> TinyModel:
    return tiny_dit(tmp_path / "dit.safetensors")


def applied(tiny: TinyModel, calibrate: bool = True, **changes):
    return ApplyTokenCache.execute(tiny.model, **{**APPLY, "calibrate_on_first_run": calibrate, **changes}).result


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def kinds(handle) -> str:
    return "".join(step.kind for step in handle.latest().steps)


def i_steps(handle) -> tuple[int, ...]:
    return tuple(step.index for step in handle.latest().steps if step.kind == "I")


def test_the_first_run_is_whole_and_every_later_one_is_placed_by_it(tiny: TinyModel, folder: Path):
    model, handle = applied(tiny)
    assert torch.equal(tiny.sample(model, steps=STEPS), tiny.sample(steps=STEPS))
    (file,) = files(folder)
    assert kinds(handle) == "I" * STEPS and handle.latest().compute == 1
    assert file.name.startswith("DiT_euler_cfg3_") and f"every step, to calibrate: the next runs have theirs by tokencache/{file.name}" in handle.latest().text()
    assert "too few to cache" not in handle.latest().text()

    found, content = load_calibration(file), file.read_bytes()
    assert sorted(found.places) == list(range(1, STEPS)) and found.sampler == "euler" and found.cfg == 3
    cached = tiny.sample(model, steps=STEPS)
    assert i_steps(handle) == found.places[usual_count(STEPS)] and f"I-steps: by the calibration {file.name}" in handle.latest().text()
    again, later = applied(tiny)       # as after a restart: the switch does nothing once there is one
    assert torch.equal(tiny.sample(again, steps=STEPS), cached) and i_steps(later) == i_steps(handle)
    off, quiet = applied(tiny, calibrate=False)
    assert torch.equal(tiny.sample(off, steps=STEPS, seed=2), tiny.sample(again, steps=STEPS, seed=2))
    assert i_steps(quiet) == i_steps(handle)
    assert files(folder) == [file] and file.read_bytes() == content
