"""Tune TokenCache and Load TokenCache Preset in the real host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import pytest
import torch
from tiny_models import TinyModel, tiny_dit, tiny_flux
from tokencache_pack.nodes.cache import ApplyTokenCache
from tokencache_pack.nodes.predictor import FOLDER
from tokencache_pack.nodes.tuning import TEXT, LoadTokenCachePreset, TuneTokenCache
from tokencache_pack.tokencache_core.files.fingerprint import ArchitectureError
from tokencache_pack.tokencache_core.tuning import place_search
from tokencache_pack.tokencache_core.tuning.preset import PresetError

APPLY = {"cache_ratio": 0.0, "forecast_order": 1, "last_blocks": 0, "context": "stale", "shares": "early"}
CHOICES = {
    "save_as": "tiny",
    "goal": "speed-up",
    "value": 1.3,
    "minutes": 3.0,  # as an end for busy machines; what is tried ends it sooner
    "steps": 8,
    "cfg": 2.0,
    "sampler_name": "ddim",
    "scheduler": "simple",
}


def presets_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(folder_paths.folder_names_and_paths, FOLDER, ([str(path)], set()))
    monkeypatch.setattr(place_search, "PATIENCE", 4)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return presets_in(tmp_path / "tokencache", monkeypatch)


def slow_dit(file) -> TinyModel:
    """Large enough for its blocks to be what a step's time is spent on."""
    return tiny_dit(file, width=256, depth=8, heads=4)


@pytest.fixture
def tiny(tmp_path) -> TinyModel:
    return slow_dit(tmp_path / "dit.safetensors")


def tune(tiny: TinyModel, **changes):
    with torch.inference_mode():
        return TuneTokenCache.execute(
            tiny.model,
            tiny.positive,
            tiny.negative,
            {"samples": torch.zeros(2, *tiny.latent)},
            **{**CHOICES, **changes},
        ).result


@pytest.fixture(scope="module")
def tuned_dit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TinyModel, Any, Path]]:
    """A DiT, what tuning it gave, and the folder with the file. It takes long, and several tests look at it."""
    folder = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        presets_in(folder / "tokencache", patch)
        tiny = slow_dit(folder / "dit.safetensors")
        yield tiny, tune(tiny), folder / "tokencache"


def check_it_applies(tiny: TinyModel, preset: Any, words: str, text: str) -> None:
    """From the node, the file and the text."""
    assert (
        preset.predicted.speedup >= 1.25
        and preset.measured.samples >= 2
        and f"{len(preset.i_steps)} of 8 steps" in words
    )
    loaded = LoadTokenCachePreset.execute("tiny.json", "").result[0]
    assert loaded == preset == LoadTokenCachePreset.execute(TEXT, text).result[0]
    assert "tiny.json" in [
        option
        for item in LoadTokenCachePreset.define_schema().inputs
        if item.id == "preset_name"
        for option in item.options
    ]
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, preset=loaded).result
    tiny.sample(model, steps=8, sampler="ddim")
    report = handle.latest()
    assert tuple(index for index, step in enumerate(report.steps) if step.kind == "I") == preset.i_steps
    assert report.settings == preset.settings.text() and not report.notes


def test_what_it_finds_for_a_dit_applies(tuned_dit, monkeypatch):
    tiny, found, folder = tuned_dit
    presets_in(folder, monkeypatch)
    check_it_applies(tiny, *found)


def test_what_it_finds_for_flux_applies_and_the_model_is_as_it_was():
    tiny = tiny_flux()
    before = tiny.sample()
    found = tune(tiny)
    assert torch.equal(tiny.sample(), before)
    check_it_applies(tiny, *found)


def test_another_architecture_is_refused_and_other_weights_are_said(tuned_dit, tiny):
    preset = tuned_dit[1][0]
    with pytest.raises(ArchitectureError, match="a preset tuned for this one.* It is for DiT"):
        ApplyTokenCache.execute(tiny_flux().model, **APPLY, preset=preset)
    for weight in tiny.model.model.diffusion_model.parameters():
        weight.data = weight.data.flip(0)
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, preset=preset).result
    tiny.sample(model, steps=8)
    assert "tuned on other weights" in handle.latest().text()


def test_an_apply_before_it_does_not_count():
    tiny = tiny_flux()
    slow = ApplyTokenCache.execute(tiny.model, **{**APPLY, "cache_ratio": 1.0, "forecast_order": 0}).result
    through = TinyModel(tiny.name, slow[0], tiny.positive, tiny.negative, tiny.latent)
    tune(through)
    assert not slow[1].reports


def test_an_interrupt_keeps_the_best_so_far(tiny, folder, monkeypatch):
    bars = []
    update = comfy.utils.ProgressBar.update_absolute

    def interrupting(self, *args, **kwargs):
        bars.append(self)
        if len(bars) == 6:
            comfy.model_management.interrupt_current_processing()
        update(self, *args, **kwargs)

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", interrupting)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tune(tiny)
    assert LoadTokenCachePreset.execute("tiny.json", "").result[0].measured is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"save_as": "../tiny"}, "plain file name"),
        ({"goal": "psnr", "value": 300.0}, "at most 100"),
        ({"goal": "ssim", "value": 0.9}, "PSNR"),
        ({"goal": "psnr", "value": 100.0}, "cannot be met"),
    ],
)
def test_bad_goals_and_names(tiny, folder, changes, says):
    with pytest.raises(ValueError, match=says):
        tune(tiny, **changes)
    assert not list(folder.glob("*"))


def test_what_is_no_preset_is_refused(tiny, folder):
    folder.mkdir()
    (folder / "tiny.json").write_text("{}")
    with pytest.raises(PresetError, match="tiny.json is not a TokenCache preset"):
        LoadTokenCachePreset.execute("tiny.json", "")
