"""Calibrate I-Steps in the real host, on models of unlike families."""

from __future__ import annotations

import pytest
import torch
from tiny_families import TINY
from tokencache_pack.nodes.nodes_cache import ApplyTokenCache, IStepScheduler
from tokencache_pack.nodes.nodes_tune import CalibrateISteps
from tokencache_pack.tokencache_core.fingerprint import ArchitectureError
from tokencache_pack.tokencache_core.schedule import PercentileSchedule

CHOICES = {"runs": 2, "steps": 8, "cfg": 3.0, "scheduler": "simple"}
POLICY = {"interval": 3, "second_interval": 4, "split": 0.5, "warmup": 2, "steps": "0"}


def calibrated(tiny, **changes):
    with torch.inference_mode():
        return CalibrateISteps.execute(
            tiny.model, tiny.positive, tiny.negative, {"samples": torch.zeros(2, *tiny.latent)}, **{**CHOICES, **changes},
        ).result[0]


@pytest.mark.parametrize("name", ["DiT", "Flux 1", "PixArt sigma", "Wan 2.1 T2V"])
def test_it_places_i_steps_for_a_model(name: str):
    tiny = TINY[name]()
    before = tiny.sample(steps=8)
    predictor = calibrated(tiny)
    assert len(predictor.calibration.taus) == 8 and predictor.calibration.samples == 4
    schedule = IStepScheduler.execute("percentile", **POLICY, count=4, predictor=predictor).result[0]
    assert isinstance(schedule, PercentileSchedule)
    model, report = ApplyTokenCache.execute(tiny.model, 1.0, 1, 0, "stale", "staleness", "early", schedule=schedule).result
    tiny.sample(model, steps=8)
    assert [step.kind for step in report.latest().steps].count("I") == 4
    assert torch.equal(tiny.sample(steps=8), before)


def test_a_predictor_keeps_what_it_holds_and_another_models_is_refused():
    tiny = TINY["Flux 1"]()
    first = calibrated(tiny)
    assert calibrated(tiny, predictor=first, runs=1).settings == first.settings
    with pytest.raises(ArchitectureError):
        calibrated(TINY["DiT"](), predictor=first)


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="too few"):
        calibrated(TINY["Flux 1"](), steps=3)
