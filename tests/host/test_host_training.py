"""Train Cache Predictor in the real host: it learns, keeps its work, and leaves the model as it was."""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import partial

import comfy.model_management
import comfy.utils
import folder_paths
import pytest
import torch
from tiny_models import TinyModel, tiny_dit, tiny_flux
from tokencache_pack.nodes.cache import ApplyTokenCache
from tokencache_pack.nodes.predictor import FOLDER, LoadCachePredictor, TrainCachePredictor
from tokencache_pack.tokencache_core.settings import CacheSettings
from tokencache_pack.tokencache_core.training.freed_memory import given_back_at_once
from tokencache_pack.tokencache_core.training.trainer import Training

APPLY = {"cache_ratio": 1.0, "forecast_order": 1, "last_blocks": 0, "context": "stale", "shares": "early"}
CHOICES = {
    "save_as": "tiny",
    "minutes": 0.02,
    "steps": 8,
    "cfg": 2.0,
    "sampler_name": "ddim",
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
    "learning_rate": 1e-3,
    "checkpointing": False,
    "seed": 0,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    path = tmp_path / "tokencache"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, FOLDER, ([str(path)], {".safetensors"}))
    return path


@pytest.fixture(params=[tiny_dit, tiny_flux], ids=["DiT", "Flux"])
def tiny(request, tmp_path) -> TinyModel:
    if request.param is tiny_dit:
        return tiny_dit(tmp_path / "dit.safetensors")
    return tiny_flux()


def train(tiny: TinyModel, **changes):
    """As the host runs a node: in inference mode."""
    latent = {"samples": torch.zeros(1, *tiny.latent)}
    with torch.inference_mode():
        return TrainCachePredictor.execute(
            tiny.model, tiny.positive, tiny.negative, latent, **{**CHOICES, **changes}
        ).result[0]


def test_it_learns_and_its_file_applies(tiny, folder, monkeypatch):
    before = tiny.sample()
    monkeypatch.setattr(Training, "is_over", lambda training, *_: training.iteration == 2)  # and not by the clock
    trained = train(tiny)
    assert torch.equal(tiny.sample(), before)
    assert len(trained.log) >= 2
    assert trained.forecasts
    pairs = [pair for pairs in trained.repair.blocks.values() for pair in pairs.values()]
    assert (
        pairs
        and all(torch.isfinite(pair.up).all() for pair in pairs)
        and any(pair.up.abs().max() > 0 for pair in pairs)
    )
    loaded = LoadCachePredictor.execute("tiny.safetensors").result[0]
    assert loaded.fingerprint == trained.fingerprint
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, predictor=loaded).result
    assert torch.isfinite(tiny.sample(model)).all()
    assert "other weights" not in handle.latest().text()


def test_a_training_that_does_not_fit_is_refused_before_it_begins(tiny, folder, monkeypatch):
    monkeypatch.setattr("tokencache_pack.nodes.host.train_predictor._free_memory", lambda: 1000)
    with pytest.raises(MemoryError, match="1e-06 GB are free: use a smaller latent"):
        train(tiny)
    assert not list(folder.glob("*"))


@pytest.fixture
def one_iteration(monkeypatch):
    monkeypatch.setattr("tokencache_pack.nodes.host.train_predictor._train", lambda training, progress: training.step())


def test_memory_goes_back_when_freed(one_iteration, monkeypatch):
    opened = []

    @contextmanager
    def watched():
        with given_back_at_once() as works:
            opened.append(works)
            yield works

    monkeypatch.setattr("tokencache_pack.nodes.host.train_predictor.given_back_at_once", watched)
    train(tiny_flux())
    assert len(opened) == 1


def test_checkpointing_learns_the_same(tiny, one_iteration):
    """Blocks that write into their arguments (Flux) among them."""
    usual, other = (
        train(tiny, save_as=name, checkpointing=on, forecast_hidden=0, loss="drift")
        for name, on in (("usual", False), ("other", True))
    )
    assert other.log[0].loss == usual.log[0].loss and other.notes.keys() >= {"held_out_drift", "held_out_speedup"}
    for index, pairs in usual.repair.blocks.items():
        for path, pair in pairs.items():
            assert pair.up.abs().max() > 0 and torch.allclose(other.repair.blocks[index][path].up, pair.up, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_the_gradient_goes_through_the_hosts_sampler(tiny, one_iteration, monkeypatch, sampler):
    """The last step is an I-step and nothing is corrected, so all that P-steps add counts through the sampler, which
    has no gradient.
    """
    monkeypatch.setattr("tokencache_pack.nodes.predictor.CacheSettings", partial(CacheSettings, corrector=0.0))
    found, learn = [], Training._learn

    def watched(training, loss):
        learn(training, loss)
        found.append(loss.item())

    monkeypatch.setattr(Training, "_learn", watched)
    trained = train(tiny, sampler_name=sampler, last_blocks=0, interval=3, steps=10)
    assert len(found) == 4 and all(map(math.isfinite, found))
    assert any(
        weight.abs().max() > 0
        for forecast in trained.forecasts.values()
        for weight in (forecast.out.weight, forecast.gains.weight)
    )


def test_an_interrupt_keeps_the_work(tmp_path, folder, monkeypatch):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    step = Training.step

    def cancelled_in_the_second(training):
        comfy.model_management.interrupt_current_processing(training.iteration == 1)
        return step(training)

    monkeypatch.setattr(Training, "step", cancelled_in_the_second)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train(tiny, minutes=10.0)
    saved = LoadCachePredictor.execute("tiny.safetensors").result[0]
    assert len(saved.log) == 1


def test_an_interrupt_in_the_first_measurement_leaves_nothing(tmp_path, folder, monkeypatch):
    """Of an iteration that the page has not heard of."""

    def cancelled(training):
        raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(Training, "_measure", cancelled)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train(tiny_dit(tmp_path / "dit.safetensors"), minutes=10.0)
    assert not list(folder.glob("*"))


@pytest.mark.parametrize("name", ["", "../elsewhere", "a/b", ".hidden", "a\\b"])
def test_only_a_plain_file_name_is_written(tmp_path, name):
    with pytest.raises(ValueError, match="not a plain file name"):
        train(tiny_dit(tmp_path / "dit.safetensors"), save_as=name)


def test_an_existing_file_is_not_overwritten(tmp_path, folder):
    folder.mkdir()
    for name in ("tiny", "tiny_2"):
        (folder / f"{name}.safetensors").write_bytes(b"")
    train(tiny_dit(tmp_path / "dit.safetensors"))
    assert (folder / "tiny.safetensors").read_bytes() == (folder / "tiny_2.safetensors").read_bytes() == b""
    assert LoadCachePredictor.execute("tiny_3.safetensors").result[0].log


@pytest.mark.parametrize("kind", ["block", "light"])
def test_a_predictor_is_learned_and_chooses_the_tokens(tiny, folder, kind):
    trained = train(tiny, minutes=0.05, predictor=kind, cache_ratio=0.5, last_blocks=1)
    assert trained.predictor.kind == kind and trained.repair is not None and trained.shares
    loaded = LoadCachePredictor.execute("tiny.safetensors").result[0]
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, predictor=loaded).result
    assert torch.isfinite(tiny.sample(model)).all()
    assert all(sum(step.block_tokens) > 0 for step in handle.latest().steps if step.kind == "P")
