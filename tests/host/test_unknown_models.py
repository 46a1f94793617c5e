"""What the pack does not know: it forecasts the output of whole networks; blocks of known networks run in full."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.k_diffusion.sampling import sample_ar_video
from comfy.patcher_extension import WrappersMP
from tiny_families import TINY
from tiny_families.stable_audio import stable_audio_small
from tiny_families.tiny_model import TinyModel
from tiny_outputs import TINY_OUTPUTS, ace_step, causal_wan, sd15
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings

EVERY_THIRD = UniformSchedule(interval=3, warmup=2)


UNKNOWN = pytest.mark.parametrize(("make", "name"), [(ace_step, "ACEStepTransformer2DModel"), (sd15, "UNetModel")])


@UNKNOWN
def test_an_unknown_networks_output_is_forecast_and_the_report_says_so(make, name: str):
    tiny = make()
    model, handle = apply_tokencache(tiny.model, CacheSettings(cache_ratio=0.9), EVERY_THIRD)
    calls = []
    model.add_wrapper_with_key(
        WrappersMP.APPLY_MODEL, "count", lambda executor, *args, **kwargs: calls.append(1) or executor(*args, **kwargs)
    )
    got = tiny.sample(model, steps=20)
    report = handle.latest()
    assert got.isfinite().all() and "".join(step.kind for step in report.steps) == "II" + "PPI" * 6
    assert report.compute == pytest.approx(8 / 20) and len(calls) == 8
    assert f"does not know the blocks of {name}" in (text := report.text())
    assert "on P-steps its whole output is forecast" in text


def test_a_network_that_keeps_a_state_from_call_to_call_runs_whole():
    """The causal Wan under its own sampler, frame by frame."""
    tiny = causal_wan()
    model, handle = apply_tokencache(tiny.model, CacheSettings(), EVERY_THIRD)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 6)

    def run(patcher) -> torch.Tensor:
        noise = tiny.noise()
        sampler = comfy.samplers.KSAMPLER(sample_ar_video)
        given = (tiny.positive, tiny.negative, torch.zeros_like(noise))
        return comfy.sample.sample_custom(patcher, noise, 1.0, sampler, sigmas, *given, disable_pbar=True, seed=1)

    with torch.inference_mode():
        assert torch.equal(run(model), run(tiny.model))
    report = handle.latest()
    assert report.compute == 1.0 and "CausalWanModel was not cached: it keeps a state of its own" in report.text()


@UNKNOWN
def test_at_ratio_zero_an_unknown_network_gives_the_plain_models_bits(make, name: str):
    tiny = make()
    model, handle = apply_tokencache(tiny.model, CacheSettings(cache_ratio=0.0), EVERY_THIRD)
    assert torch.equal(tiny.sample(model, batch=2), tiny.sample(batch=2)) and handle.latest().compute == 1.0


@UNKNOWN
def test_what_is_kept_of_an_output_is_told_and_goes_with_its_conditioning(make, name: str):
    tiny = make()
    model, handle = apply_tokencache(tiny.model, CacheSettings(), EVERY_THIRD)
    apart: list[bool] = []
    tiny.model.model.memory_required = lambda *args, **kwargs: 1e18 if apart else 0.0

    def now_and_then(executor, *args):
        apart[:] = [] if apart else [True]
        return executor(*args)

    usual = tiny.sample(model, batch=2, steps=12)
    changing = model.clone()
    changing.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "memory", now_and_then)
    got, report = tiny.sample(changing, batch=2, steps=12), handle.latest()
    assert (got - usual).norm() < 1e-4 * usual.norm() and not any(step.misses for step in report.steps)
    assert (
        report.expected_bytes == handle.reports[0].memory_bytes == 3 * 4 * usual.numel() * 2
    )  # of three I-steps, both conditionings


@pytest.fixture
def with_an_unknown_block() -> TinyModel:
    tiny = TINY["Qwen-Image"]()
    block = tiny.model.model.diffusion_model.transformer_blocks[1]
    block.__class__ = type("NextMonthsBlock", (type(block),), {})
    return tiny


def test_an_unknown_block_of_a_known_network_runs_whole_among_the_others(
    with_an_unknown_block, caplog: pytest.LogCaptureFixture
):
    tiny = with_an_unknown_block
    model, handle = apply_tokencache(tiny.model, CacheSettings(cache_ratio=0.9, shares="uniform"), EVERY_THIRD)
    assert tiny.sample(model).isfinite().all()
    report = handle.latest()
    warning = "blocks of class NextMonthsBlock are computed in full"
    assert warning in caplog.text and any(warning in note for note in report.notes)
    image_tokens = report.token_counts.shape[1]
    for step in report.steps:
        first, unknown, last = step.block_tokens
        assert unknown == image_tokens  # nobody knows whether it computes text as well
        assert max(first, last) < unknown if step.kind == "P" else min(first, last) > unknown


def test_around_an_unknown_block_ratio_zero_is_bit_identical(with_an_unknown_block):
    tiny = with_an_unknown_block
    model, _ = apply_tokencache(tiny.model, CacheSettings(cache_ratio=0.0), EVERY_THIRD)
    assert torch.equal(tiny.sample(model, batch=2), tiny.sample(batch=2))


def test_a_network_whose_blocks_all_average_over_their_tokens_is_forecast_at_its_output():
    tiny = stable_audio_small()
    model, handle = apply_tokencache(tiny.model, CacheSettings(cache_ratio=0.9), EVERY_THIRD)
    assert tiny.sample(model).isfinite().all()
    report = handle.latest()
    assert report.compute == pytest.approx(3 / 6) and "its whole output is forecast" in report.text()


@pytest.mark.parametrize("name", ["Flux 1", "SD 1.5"])
@pytest.mark.parametrize("sampler", ["euler_ancestral", "er_sde"])
def test_under_a_sampler_that_adds_noise_the_clean_latent_is_held(name: str, sampler: str):
    tiny = (TINY | TINY_OUTPUTS)[name]()
    model, handle = apply_tokencache(tiny.model, CacheSettings(), EVERY_THIRD)
    clean: list[torch.Tensor] = []

    def watch(executor, *args):
        clean.append(executor(*args).clone())
        return clean[-1]

    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "watch", watch)
    assert tiny.sample(model, sampler=sampler, steps=8).isfinite().all()
    kinds = "".join(step.kind for step in handle.latest().steps)
    assert kinds == "IIPPIPPI" and handle.latest().compute == 4 / 8
    for step, kind in enumerate(kinds):
        changed = step > 0 and not torch.allclose(clean[step], clean[step - 1], rtol=1e-4, atol=1e-5)
        assert step == 0 or changed == (kind == "I")


def test_a_samplers_own_noise_is_not_touched():
    tiny = TINY["Flux 1"]()
    model, _ = apply_tokencache(tiny.model, CacheSettings(cache_ratio=0.0), EVERY_THIRD)
    assert torch.equal(tiny.sample(model, sampler="er_sde"), tiny.sample(sampler="er_sde"))
