"""Runs of a text-to-image model under a session: exact where all is computed, near where a part is forecast, and asked
for by prompts.
"""

from __future__ import annotations

import pytest
import torch
from tiny_flux_model import EXAMPLES, tiny_run, tiny_text_to_image

from tokencache_core.flux.sampled import SampledFlux
from tokencache_core.runs.cached_sampling import sample_cached
from tokencache_core.runs.sampled_model import RandomRuns
from tokencache_core.sampling.noise_time import flow_ratio, noise_time
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings

FLOW = SigmaSchedule("flow", 3.0)
HALF = ExplicitSchedule((0, 2, 4))


@pytest.fixture(scope="module")
def model():
    return tiny_text_to_image()


@pytest.mark.parametrize("references", [0, 1])
@pytest.mark.parametrize("settings", [CacheSettings(cache_ratio=0.0), CacheSettings(cache_ratio=0.0, last_blocks=1)])
def test_p_steps_that_compute_all_tokens_are_exact(model, settings, references):
    given = [torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))] * references
    run = tiny_run(model, ["red cat", "dog"], steps=6, references=given)
    cached, report = sample_cached(run, settings, HALF)
    assert torch.allclose(cached, run.sample(), atol=1e-4)
    assert report.compute == pytest.approx(1.0)


@pytest.mark.parametrize("settings", [CacheSettings(cache_ratio=1.0), CacheSettings(cache_ratio=0.5)])
@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
def test_forecasts_compute_less_and_stay_near(model, settings, solver):
    run = tiny_run(model, ["red cat", "dog"], steps=6, solver=solver)
    full = run.sample()
    cached, report = sample_cached(run, settings, HALF)
    held, _ = sample_cached(run, CacheSettings(cache_ratio=1.0, order=0, corrector=0.0), ExplicitSchedule((0,)))
    assert report.compute < 0.9
    assert 0 < (cached - full).square().mean() < (held - full).square().mean()


def test_noise_time_is_of_the_flow_s_own_noise(model):
    run = tiny_run(model, ["dog"])
    assert run.noise_time(1.0) == pytest.approx(1.0)
    assert run.noise_time(0.5) == noise_time(flow_ratio(0.5)) and run.noise_time(0.0) == 0


def test_conditions_are_prompts(model):
    sampled = SampledFlux(model)
    assert sampled.conditions(None) == list(EXAMPLES)
    assert sampled.conditions("red cat, dog") == ["red cat", "dog"]
    assert sampled.conditions_apart("dog") == (["dog"], ["dog"])
    assert sampled.conditions_apart(None) == ([each for each in EXAMPLES if each != EXAMPLES[3]], [EXAMPLES[3]])
    with pytest.raises(ValueError, match="knows no word of the prompt 'blue'"):
        sampled.conditions("red cat, blue")


def test_a_schedule_of_another_kind_of_model_is_refused(model):
    with pytest.raises(ValueError, match="this is a flow model.*--schedule flow"):
        SampledFlux(model).sigmas(SigmaSchedule("karras"), 10)
    assert SampledFlux(model).sigmas(FLOW, 4).tolist() == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])


def test_random_runs(model):
    runs = RandomRuns(
        SampledFlux(model), ["red cat", "dog"], ["green cat"], batch=3, steps=2, cfg=3.5, solver="ddim", schedule=FLOW
    )
    first, again, other = runs(0), runs(0), runs(1)
    assert torch.equal(first.sample(), again.sample())
    assert not torch.equal(first.noise, other.noise)
    assert first.noise.std() == pytest.approx(1.0, abs=0.05)
