"""A trained cache in the host: loaded from models/tokencache, applied on P-steps, refused where it does not fit."""

from __future__ import annotations

from dataclasses import replace

import folder_paths
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import TinyModel, tiny_dit, tiny_flux
from tokencache_pack.nodes.cache import ApplyTokenCache, IStepScheduler
from tokencache_pack.nodes.families import family_of
from tokencache_pack.nodes.predictor import FOLDER, LoadCachePredictor, PlotPredictorTraining, SaveCachePredictor

from tokencache_core.files.fingerprint import fingerprint_of
from tokencache_core.predictor.file import save_trained_cache
from tokencache_core.predictor.lora import LoraPair, LoraRepair
from tokencache_core.predictor.trained_cache import ImportanceCurve, TrainedCache, TrainingPoint
from tokencache_core.settings import CacheSettings

APPLY = {"cache_ratio": 1.0, "forecast_order": 1, "last_blocks": 0, "context": "stale", "shares": "early"}


@pytest.fixture
def tiny(tmp_path) -> TinyModel:
    return tiny_dit(tmp_path / "dit.safetensors")


@pytest.fixture
def loaded(tiny, tmp_path, monkeypatch):
    """A repair of the tiny DiT's last block that is large enough to see, through a file and the node."""
    network = tiny.model.model.diffusion_model
    blocks = [block for block, _ in family_of(network).blocks(network)]
    layer, random = blocks[-1].mlp.fc2, torch.Generator().manual_seed(0)
    pair = LoraPair(
        0.2 * torch.randn(2, layer.in_features, generator=random),
        0.2 * torch.randn(layer.out_features, 2, generator=random),
    )
    trained = TrainedCache(
        settings=CacheSettings(order=1, last_blocks=1),
        interval=2,
        fingerprint=fingerprint_of("DiT", blocks),
        repair=LoraRepair({len(blocks) - 1: {"mlp.fc2": pair}}, rank=2, alpha=2.0),
    )
    folder = tmp_path / "predictors"
    folder.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, FOLDER, ([str(folder)], {".safetensors"}))
    save_trained_cache(trained, folder / "tiny.safetensors")
    return LoadCachePredictor.execute("tiny.safetensors").result[0]


def test_files_are_looked_for_in_models_tokencache():
    assert any(path.endswith("tokencache") for path in folder_paths.get_folder_paths(FOLDER))


def test_the_repair_runs_on_p_steps_with_its_own_last_blocks_and_interval(tiny, loaded):
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, predictor=loaded).result
    repaired = tiny.sample(model, batch=2)
    report = handle.latest()
    assert [step.kind for step in report.steps] == ["I", "I", "P", "I", "P", "I"]
    assert "predictor: a LoRA repair of the last blocks" in report.text().splitlines()
    depth = len(report.steps[0].block_tokens)
    assert report.block_counts[2].tolist()[:-1] == [0] * (depth - 1) and report.block_counts[2][-1] > 0
    plain_file = replace(loaded, repair=LoraRepair({}, rank=2, alpha=2.0))
    without = tiny.sample(ApplyTokenCache.execute(tiny.model, **APPLY, predictor=plain_file).result[0], batch=2)
    assert torch.isfinite(repaired).all() and not torch.allclose(repaired, without, atol=1e-3)


def test_ratio_zero_with_a_predictor_is_bit_identical(tiny, loaded):
    model = ApplyTokenCache.execute(tiny.model, **{**APPLY, "cache_ratio": 0.0}, predictor=loaded).result[0]
    assert torch.equal(tiny.sample(model), tiny.sample())


def test_the_model_is_the_plain_one_again_after_a_run(tiny, loaded):
    before = tiny.sample()
    tiny.sample(ApplyTokenCache.execute(tiny.model, **APPLY, predictor=loaded).result[0])
    assert torch.equal(tiny.sample(), before)


def test_saving_writes_the_predictor_and_its_plain_lora(tiny, loaded, tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path / "loras")], {".safetensors"}))
    SaveCachePredictor.execute(loaded, "kept", tiny.model)
    again = LoadCachePredictor.execute("kept.safetensors").result[0]
    assert again.fingerprint == loaded.fingerprint and again.interval == loaded.interval
    names = set(load_file(tmp_path / "loras" / "kept.safetensors"))
    last = len(tiny.model.model.diffusion_model.blocks) - 1
    assert names == {
        f"diffusion_model.blocks.{last}.mlp.fc2.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    SaveCachePredictor.execute(loaded, "kept", tiny.model)  # nothing is overwritten
    assert (tmp_path / "predictors" / "kept_2.safetensors").exists() and (
        tmp_path / "loras" / "kept_2.safetensors"
    ).exists()
    with pytest.raises(ValueError, match="; the model is Flux"):
        SaveCachePredictor.execute(loaded, "other", tiny_flux().model)
    assert not (tmp_path / "predictors" / "other.safetensors").exists()


def test_the_chart_shows_both_lines(loaded):
    with pytest.raises(ValueError, match="no training log"):
        PlotPredictorTraining.execute(loaded)
    log = tuple(TrainingPoint(i, 6.0 * i, 10.0 / i, 5.0 / i if i % 2 == 0 else None) for i in range(1, 9))
    chart = PlotPredictorTraining.execute(replace(loaded, log=log)).result[0]
    colours = {tuple(colour) for colour in (chart[0] * 255).round().int().reshape(-1, 3).unique(dim=0).tolist()}
    assert {(0, 114, 178), (213, 94, 0)} <= colours


def test_another_architecture_is_refused_before_any_work(loaded):
    with pytest.raises(ValueError, match="a predictor trained for this one.* It is for DiT: .*; the model is Flux"):
        ApplyTokenCache.execute(tiny_flux().model, **APPLY, predictor=loaded)


def test_other_weights_run_and_the_report_says_so(tiny, loaded):
    for weight in tiny.model.model.diffusion_model.blocks.parameters():
        weight.data = weight.data + 0.01
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, predictor=loaded).result
    tiny.sample(model)
    assert "other weights of this architecture" in handle.latest().text()


def test_percentile_i_steps_come_from_the_calibration(tiny, loaded):
    choices = {
        "policy": "percentile",
        "interval": 3,
        "second_interval": 4,
        "split": 0.5,
        "warmup": 2,
        "steps": "0",
        "count": 3,
    }
    with pytest.raises(ValueError, match="connect Load Cache Predictor"):
        IStepScheduler.execute(**choices)
    with pytest.raises(ValueError, match="not calibrated: run `python -m tokencache_core calibrate`"):
        IStepScheduler.execute(**choices, predictor=loaded)
    late = replace(loaded, calibration=ImportanceCurve((1.0, 0.6, 0.5, 0.0), (0.0, 0.0, 1.0, 1.0), samples=1))
    schedule = IStepScheduler.execute(**choices, predictor=late).result[0]
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, schedule=schedule).result
    tiny.sample(model, steps=8)
    kinds = [step.kind for step in handle.latest().steps]
    assert kinds[0] == "I" and kinds.count("I") == 3 and "I" not in kinds[1:4]  # nothing matters before tau 0.6
