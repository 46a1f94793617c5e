"""Wan 2.2 as people wire it: a model for high noise, one for low noise, each with a sampler and a cache of its own."""

from __future__ import annotations

from dataclasses import replace

import comfy.sample
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from tiny_families import TINY
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings
from torch import Tensor

STEPS = 20


@pytest.fixture(scope="module")
def halves() -> tuple[TinyModel, TinyModel]:
    """Two models of the same shape, with other weights."""
    high, low = TINY["Wan 2.1 T2V"](), TINY["Wan 2.1 T2V"]()
    for weight in low.model.model.diffusion_model.parameters():
        weight.data = weight.data.flip(0)
    return high, low


@torch.inference_mode()
def sample(halves: tuple[TinyModel, TinyModel], models: tuple[ModelPatcher, ModelPatcher]) -> Tensor:
    """Two runs of KSamplerAdvanced, the second on what the first leaves."""
    latent = torch.zeros(1, *halves[0].latent)
    for first, (tiny, model) in zip((0, STEPS // 2), zip(halves, models)):
        noise = tiny.noise() if first == 0 else torch.zeros_like(latent)
        latent = comfy.sample.sample(
            model,
            noise,
            STEPS,
            3.0,
            "euler",
            "simple",
            tiny.positive,
            tiny.negative,
            latent,
            start_step=first,
            last_step=first + STEPS // 2,
            disable_noise=first > 0,
            force_full_denoise=first > 0,
            disable_pbar=True,
            seed=1,
        )
    return latent


def test_each_model_has_its_own_run_and_report(halves: tuple[TinyModel, TinyModel]):
    (high, of_high), (low, of_low) = (
        apply_tokencache(tiny.model, CacheSettings(), AutomaticSchedule()) for tiny in halves
    )
    assert sample(halves, (high, low)).isfinite().all()
    for handle in (of_high, of_low):
        (report,) = handle.reports
        kinds = "".join(step.kind for step in report.steps)
        assert len(kinds) == STEPS // 2 and kinds[0] == "I" and kinds.count("I") in (5, 6)
        assert report.compute == kinds.count("I") / len(kinds)
        assert not any(step.misses for step in report.steps) and not report.notes
    assert of_high.latest().steps[-1].sigma > of_low.latest().steps[0].sigma


def test_at_ratio_zero_both_together_give_the_plain_models_bits(halves: tuple[TinyModel, TinyModel]):
    cached = tuple(
        apply_tokencache(tiny.model, replace(CacheSettings(), cache_ratio=0.0), AutomaticSchedule())[0]
        for tiny in halves
    )
    assert torch.equal(sample(halves, cached), sample(halves, tuple(tiny.model for tiny in halves)))
