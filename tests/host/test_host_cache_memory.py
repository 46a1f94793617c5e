"""The cache's memory in the real ComfyUI: told before sampling, measured afterwards, and held to a budget."""

from __future__ import annotations

import logging

import pytest
import torch
from tiny_models import TinyModel, tiny_flux, tiny_pixart
from tokencache_pack.nodes.cache import ApplyTokenCache
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.tokencache_core.engine.memory_budget import FORMS
from tokencache_pack.tokencache_core.engine.record import Report
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings

SOME = {"order": 2, "cache_ratio": 0.8, "shares": "uniform"}
PLAIN, HALF, AWAY, JOINED, SMALLEST = map(str, FORMS)


@pytest.fixture(params=["PixArt", "Flux"])
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return {"PixArt": tiny_pixart, "Flux": tiny_flux}[request.param]()


def run(tiny: TinyModel, budget_bytes: float = 0, **settings) -> tuple[torch.Tensor, Report]:
    model, handle = apply_tokencache(
        tiny.model,
        CacheSettings(**settings),
        UniformSchedule(interval=3, warmup=2),
        memory_budget_gb=budget_bytes / 2**30,
    )
    return tiny.sample(model, batch=2, steps=9), handle.latest()


def rms(x: torch.Tensor) -> torch.Tensor:
    return x.square().mean().sqrt()


def split_conditionings(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a card short of memory: the host evaluates the conditionings one by one."""
    monkeypatch.setattr(tiny.model.model, "memory_required", lambda *args, **kwargs: 1e18)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, SOME, {"cache_ratio": 0.7, "order": 1, "last_blocks": 1}, {**SOME, "context": "computed"}]
)
def test_a_run_keeps_what_was_expected(tiny: TinyModel, settings: dict, split: bool, monkeypatch: pytest.MonkeyPatch):
    if split:
        split_conditionings(tiny, monkeypatch)
    _, report = run(tiny, **settings)
    assert report.memory_bytes == pytest.approx(report.expected_bytes, rel=0.05) and report.memory_bytes > 0
    assert f"expected {report.expected_bytes / 2**20:.1f} MiB ({PLAIN})" in report.text()


@pytest.mark.parametrize("settings", [{}, SOME])
def test_a_budget_that_is_not_reached_changes_no_bit(tiny: TinyModel, settings: dict):
    assert torch.equal(run(tiny, 2**30, **settings)[0], run(tiny, **settings)[0])


def test_smaller_and_smaller_budgets(tiny: TinyModel):
    plain, free = run(tiny, **SOME)
    half, halved = run(tiny, free.memory_bytes - 1, **SOME)
    away, moved = run(tiny, halved.memory_bytes - 1, **SOME)
    assert (free.storage, halved.storage) == (PLAIN, HALF) and halved.memory_bytes < free.memory_bytes
    assert halved.memory_bytes == pytest.approx(halved.expected_bytes, rel=0.05)
    assert 0 < rms(half - plain) < 0.02 * rms(plain)
    if moved.storage == AWAY:  # where a few blocks are not the whole network
        assert torch.equal(away, half)
    smallest, least = run(tiny, 1, **SOME)
    assert least.storage == SMALLEST and "was too small" in least.text()
    assert smallest.isfinite().all() and least.memory_bytes < moved.memory_bytes <= halved.memory_bytes
    assert not (free.notes or halved.notes or moved.notes)


def test_conditionings_apart_share_the_budget(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch):
    split_conditionings(tiny, monkeypatch)
    plain, free = run(tiny, **SOME)
    half, report = run(tiny, free.memory_bytes * 0.95, **SOME)
    assert report.storage == HALF and report.memory_bytes == pytest.approx(report.expected_bytes, rel=0.05)
    assert not any(step.misses for step in report.steps)
    assert rms(half - plain) < 0.02 * rms(plain)


def test_the_node_takes_a_budget_and_the_log_says_what_a_run_will_keep(caplog: pytest.LogCaptureFixture):
    tiny = tiny_flux()
    choices = {"cache_ratio": 1.0, "forecast_order": 2, "last_blocks": 0, "context": "stale", "shares": "early"}
    model, handle = ApplyTokenCache.execute(tiny.model, **choices, memory_budget_gb=0.0003).result
    with caplog.at_level(logging.INFO):
        tiny.sample(model, batch=2)
    told = [record.message for record in caplog.records if "will keep" in record.message]
    assert len(told) == 1 and HALF in told[0] and "budget 0.3 MiB" in told[0]
    assert handle.latest().storage == HALF
