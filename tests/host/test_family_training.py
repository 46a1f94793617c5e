"""Train Cache Predictor on families unlike each other: what is learned brings a run that is never trained on closer to
the plain model's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from tiny_families import TINY
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.cache import ApplyTokenCache
from tokencache_pack.nodes.predictor import FOLDER, LoadCachePredictor, TrainCachePredictor
from tokencache_pack.tokencache_core.training.trainer import Training

ONE_OF_EACH = {name.split()[0]: name for name in TINY}.values()
NAMES = ("Flux 1", "PixArt sigma", "Wan 2.1 T2V")
APPLY = {"cache_ratio": 1.0, "forecast_order": 1, "last_blocks": 0, "context": "stale", "shares": "early"}
CHOICES = {
    "save_as": "tiny",
    "minutes": 1.0,
    "steps": 6,
    "cfg": 1.0,
    "sampler_name": "euler",
    "scheduler": "simple",
    "interval": 3,
    "last_blocks": 1,
    "cache_ratio": 1.0,
    "forecast_order": 1,
    "rank": 4,
    "predictor": "none",
    "forecast_hidden": 8,
    "loss": "run",
    "every_step": False,
    "learning_rate": 3e-3,
    "checkpointing": False,
    "seed": 0,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(folder_paths.folder_names_and_paths, FOLDER, ([str(tmp_path)], {".safetensors"}))
    return tmp_path


@pytest.fixture(scope="module", params=NAMES)
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return TINY[request.param]()


def train(tiny: TinyModel, iterations: int, **changes: Any) -> Any:
    """As the host runs a node: in inference mode, on conditionings that were made in it. It stops by count, not by the
    clock.
    """
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "is_over", lambda training, *_: training.iteration >= iterations)
        latent = {"samples": torch.zeros(1, *tiny.latent)}
        positive, negative = (
            [[context.clone(), values] for context, values in each] for each in (tiny.positive, tiny.negative)
        )
        return TrainCachePredictor.execute(tiny.model, positive, negative, latent, **{**CHOICES, **changes}).result[0]


def applied(tiny: TinyModel) -> Any:
    """A run with what the file holds, and the report on it."""
    loaded = LoadCachePredictor.execute("tiny.safetensors").result[0]
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, predictor=loaded).result
    samples = tiny.sample(model, steps=CHOICES["steps"], cfg=CHOICES["cfg"])
    assert samples.isfinite().all()
    return samples, handle.latest()


def checksums(tiny: TinyModel) -> list[float]:
    return [float(tensor.double().sum()) for tensor in tiny.model.model.state_dict().values()]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_family_trains(name: str):
    """The paper's predictor, and LoRA after it, in one iteration."""
    tiny = TINY[name]()
    trained = train(tiny, iterations=1, predictor="block", cache_ratio=0.5, steps=4)
    pairs = [pair for pairs in trained.repair.blocks.values() for pair in pairs.values()]
    assert any(pair.up.abs().max() > 0 for pair in pairs) and trained.predictor.tensors["head.weight"].abs().max() > 0
    samples, report = applied(tiny)
    assert report.compute < 1 and not report.notes


def test_lora_and_forecasts_repair_a_run_that_is_never_trained_on(tiny: TinyModel):
    plain, weights = tiny.sample(), checksums(tiny)
    trained = train(tiny, iterations=4)
    assert checksums(tiny) == weights and torch.equal(tiny.sample(), plain)
    assert not any(hasattr(layer, "lora_A") for layer in tiny.model.model.modules())
    assert float(trained.notes["held_out_drift"]) < float(trained.notes["held_out_drift_untrained"])
    pairs = [pair for pairs in trained.repair.blocks.values() for pair in pairs.values()]
    assert pairs and trained.forecasts and any(pair.up.abs().max() > 0 for pair in pairs)
    assert "of weights are shared with it)" in trained.notes["memory"] and "copied" not in trained.notes["memory"]
    _, report = applied(tiny)
    assert "P" in [step.kind for step in report.steps] and not report.notes


def test_a_predictor_chooses_the_tokens(tiny: TinyModel):
    """A copy of the first block, which must be called as the family's blocks are."""
    trained = train(tiny, iterations=5, predictor="block", cache_ratio=0.5)
    assert float(trained.notes["held_out_drift"]) < float(trained.notes["held_out_drift_untrained"])
    assert trained.predictor.kind == "block" and trained.repair is not None and trained.shares
    assert trained.predictor.tensors["head.weight"].abs().max() > 0
    _, report = applied(tiny)
    assert all(sum(step.block_tokens) > 0 for step in report.steps if step.kind == "P") and report.compute < 1
