"""Calibrate I-Steps in the real host, on models of unlike families."""

from __future__ import annotations

import re
from pathlib import Path

import folder_paths
import pytest
import torch
from tiny_families import TINY
from tokencache_pack.nodes.cache import ApplyTokenCache, IStepScheduler
from tokencache_pack.nodes.tuning import CalibrateISteps
from tokencache_pack.tokencache_core.schedules.calibration import load_calibration
from tokencache_pack.tokencache_core.tuning.place_trials import CHANCE

CHOICES = {"save_as": "", "i_steps": 0, "steps": 8, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple"}
APPLY = {"cache_ratio": 1.0, "forecast_order": 2, "context": "stale"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/tokencache, and nothing in it."""
    place = tmp_path / "tokencache"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "tokencache", ([str(place)], {".safetensors", ".json"}))
    return place


def calibrated(tiny, **changes) -> str:
    with torch.inference_mode():
        return CalibrateISteps.execute(
            tiny.model,
            tiny.positive,
            tiny.negative,
            {"samples": torch.zeros(2, *tiny.latent)},
            **{**CHOICES, **changes},
        ).result[0]


@pytest.mark.parametrize("name", ["DiT", "Flux 1", "PixArt sigma", "Wan 2.1 T2V"])
def test_it_places_i_steps_for_a_model(name: str, folder: Path):
    tiny = TINY[name]()
    before = tiny.sample(steps=8)
    text = calibrated(tiny)
    (file,) = folder.iterdir()
    found = load_calibration(file)
    assert sorted(found.places) == list(range(1, 8)) and found.sampler == "euler" and found.cfg == 3
    assert f"written to tokencache/{file.name}" in text and "a full run of" in text and "tried on real runs:" in text
    for trial in found.trials:
        (db,) = re.findall(
            f"(.+) dB with {len(trial.places)} I-steps, order {trial.order}: {', '.join(map(str, trial.places))}$",
            text,
            re.MULTILINE,
        )
        assert float(db) == pytest.approx(trial.psnr_db, abs=0.051)  # rounded, as is the file's

    schedule = IStepScheduler.execute("automatic", 3, 4, 0.5, 2, "0", count=4).result[0]
    model, report = ApplyTokenCache.execute(tiny.model, **APPLY, schedule=schedule).result
    tiny.sample(model, steps=8)
    assert tuple(step.index for step in report.latest().steps if step.kind == "I") == found.places[4]
    assert f"by the calibration {file.name}" in report.latest().text()
    assert torch.equal(tiny.sample(steps=8), before)


def test_one_number_of_i_steps_and_a_name(folder: Path):
    tiny = TINY["Flux 1"]()
    first, second = (calibrated(tiny, i_steps=3, save_as="mine", sampler_name="dpmpp_2m") for _ in range(2))
    assert "still uses" not in first and "still uses mine.json" in second
    assert sorted(file.name for file in folder.iterdir()) == ["mine.json", "mine_2.json"]  # nothing is overwritten
    found = load_calibration(folder / "mine.json")
    assert found.sampler == "dpmpp_2m" and {len(trial.places) for trial in found.trials} == {3}
    chosen = max(
        trial.psnr_db for trial in found.trials if (trial.order, trial.places) == (found.order, found.places[3])
    )
    assert chosen >= max(trial.psnr_db for trial in found.trials) - 2 * CHANCE  # one for the order, one for the places


def test_an_empty_latent_of_four_channels_is_made_to_fit_as_the_samplers_do_it(folder: Path):
    tiny = TINY["Flux 1"]()
    with torch.inference_mode():
        CalibrateISteps.execute(
            tiny.model, tiny.positive, tiny.negative, {"samples": torch.zeros(1, 4, 20, 14)}, **{**CHOICES, "steps": 4}
        )
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 2}, "at least 3 steps are needed"),
        ({"steps": 100}, "too many places"),
        ({"i_steps": 8}, "one less than the 8 steps"),
        ({"i_steps": 1}, "from 2"),
        ({"sampler_name": "euler_ancestral"}, "adds fresh noise"),
        ({"sampler_name": "heun"}, "several times a step"),
        ({"save_as": "../elsewhere"}, "not a plain file name"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_any_run(changes, says, folder: Path):
    tiny = TINY["Flux 1"]()
    with pytest.raises(ValueError, match=says):
        calibrated(tiny, **changes)
    assert not folder.exists()
