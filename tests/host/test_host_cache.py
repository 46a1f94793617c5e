"""Token caching in the real ComfyUI, on three unlike families with tiny random weights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import comfy.ldm.modules.attention
import comfy.ldm.pixart.blocks
import comfy.samplers
import pytest
import torch
from tiny_models import TinyModel, tiny_dit, tiny_flux, tiny_pixart
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.tokencache_core.engine import forecast as history_module
from tokencache_pack.tokencache_core.engine import store as store_module
from tokencache_pack.tokencache_core.engine.forecast import lagrange_weights
from tokencache_pack.tokencache_core.engine.span_layout import SpanLayout
from tokencache_pack.tokencache_core.schedules.schedule import ExplicitSchedule, UniformSchedule
from tokencache_pack.tokencache_core.settings import CONTEXTS, CacheSettings

EVERY_THIRD = UniformSchedule(interval=3, warmup=2)


@pytest.fixture(params=["DiT", "PixArt", "Flux"])
def tiny(request: pytest.FixtureRequest, tmp_path) -> TinyModel:
    return {"DiT": lambda: tiny_dit(tmp_path / "dit.safetensors"), "PixArt": tiny_pixart, "Flux": tiny_flux}[
        request.param
    ]()


def cached(tiny: TinyModel, schedule=EVERY_THIRD, **settings):
    return apply_tokencache(tiny.model, CacheSettings(**settings), schedule)


def split_conditionings(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a card short of memory: the host evaluates the conditionings one by one."""
    monkeypatch.setattr(tiny.model.model, "memory_required", lambda *args, **kwargs: 1e18)


def nothing_is_left_on(tiny: TinyModel) -> bool:
    network = tiny.model.model.diffusion_model
    return not any("forward" in module.__dict__ for module in network.modules())


@pytest.mark.parametrize("split", [False, True])
def test_ratio_zero_is_bit_identical(tiny: TinyModel, split: bool, monkeypatch: pytest.MonkeyPatch):
    if split:
        split_conditionings(tiny, monkeypatch)
    model, handle = cached(tiny, cache_ratio=0.0)
    assert torch.equal(tiny.sample(model, batch=2), tiny.sample(batch=2))
    assert [step.kind for step in handle.latest().steps] == list("IIPPIP")
    assert handle.latest().compute == 1.0


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("context", CONTEXTS)
def test_gathering_every_token_changes_nothing(
    tiny: TinyModel, context: str, together: bool, monkeypatch: pytest.MonkeyPatch
):
    def gather_all(counts, n_tokens, streams, may_join):
        assert may_join
        runs = [
            [block for block in range(len(counts)) if streams[block] == stream] for stream in dict.fromkeys(streams)
        ]
        if not together:
            return tuple(SpanLayout("tokens", block, block, n_tokens) for block in range(len(counts)))
        return tuple(SpanLayout("tokens", run[0], run[-1], n_tokens) for run in runs)

    monkeypatch.setattr(store_module, "span_layouts", gather_all)
    model, handle = cached(tiny, cache_ratio=0.5, shares="uniform", context=context)
    plain, gathered = tiny.sample(batch=2), tiny.sample(model, batch=2)
    assert (gathered - plain).abs().max() <= 1e-5 * plain.abs().max()
    assert "P" in [step.kind for step in handle.latest().steps]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("shares", ["early", "uniform"])
def test_ratio_nine_tenths_computes_a_tenth_on_p_steps(tiny: TinyModel, shares: str, batch: int):
    model, handle = cached(tiny, cache_ratio=0.9, shares=shares)
    assert tiny.sample(model, batch=batch).isfinite().all()
    report = handle.latest()
    image_tokens = report.token_counts.shape[1]
    p_steps = [step for step in report.steps if step.kind == "P"]
    for step in p_steps:
        n_blocks = len(step.block_tokens)
        computed = step.token_counts.sum(dim=1) / (n_blocks * image_tokens)
        assert torch.allclose(computed, torch.tensor(0.1), atol=0.01)


@pytest.mark.parametrize("score", ["staleness", "round-robin"])
def test_batched_and_split_conditionings_agree(tiny: TinyModel, score: str, monkeypatch: pytest.MonkeyPatch):
    model, _ = cached(tiny, cache_ratio=0.8, shares="uniform", score=score)
    batched = tiny.sample(model, batch=2)
    split_conditionings(tiny, monkeypatch)
    assert torch.allclose(tiny.sample(model, batch=2), batched, atol=1e-4 * batched.abs().max())


def test_nothing_leaks_into_the_next_run(tiny: TinyModel):
    plain = tiny.sample()
    model, handle = cached(tiny)
    first = tiny.sample(model)
    assert not torch.equal(first, plain)
    assert torch.equal(tiny.sample(model), first)
    assert torch.equal(tiny.sample(), plain)  # bypassed
    assert nothing_is_left_on(tiny)
    assert len(handle.reports) == 2


def test_another_resolution_batch_and_step_count(tiny: TinyModel):
    model, handle = cached(tiny, cache_ratio=0.9)
    channels, height, width = tiny.latent
    for latent, batch, steps in ((tiny.latent, 1, 6), ((channels, height + 4, width + 8), 3, 4), (tiny.latent, 2, 9)):
        assert tiny.sample(model, latent=latent, batch=batch, steps=steps).shape == (batch, *latent)
        report = handle.latest()
        assert len(report.steps) == steps and not any(step.misses for step in report.steps)


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_sde", "euler_ancestral", "dpmpp_2m", "heunpp2", "ddim"])
def test_samplers_that_evaluate_more_than_once_a_step(tiny: TinyModel, sampler: str):
    model, handle = cached(tiny)
    assert tiny.sample(model, sampler=sampler, steps=8).isfinite().all()
    kinds = [step.kind for step in handle.latest().steps]
    assert kinds[0] == "I" and "P" in kinds


@pytest.mark.parametrize(
    ("sampler", "works"),
    [("euler", True), ("ddim", True), ("dpmpp_2m", False), ("euler_ancestral", False), ("heun", False)],
)
def test_the_corrector_is_for_eulers_method_alone(tiny: TinyModel, sampler: str, works: bool):
    with_it, without = (
        tiny.sample(cached(tiny, corrector=strength)[0], sampler=sampler, steps=9) for strength in (0.3, 0.0)
    )
    assert torch.equal(with_it, without) != works


def test_no_sampler_makes_a_forecast_explode(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Evaluations within a step, or a rounding error apart, must not become separate nodes of the polynomial."""
    weights = []

    def recording(nodes: list[float], tau: float) -> list[float]:
        weights.extend(lagrange_weights(nodes, tau))
        return lagrange_weights(nodes, tau)

    monkeypatch.setattr(history_module, "lagrange_weights", recording)
    slow = {"dpm_adaptive", "uni_pc", "uni_pc_bh2"}  # uni_pc's corrector is costly here and calls like dpmpp_2m
    for make in (tiny_flux, lambda: tiny_dit(tmp_path / "dit.safetensors")):
        tiny = make()
        model, _ = cached(tiny)
        for sampler in sorted(set(comfy.samplers.KSAMPLER_NAMES) - slow):
            for scheduler in ("simple", "karras"):
                weights.clear()
                tiny.sample(model, sampler=sampler, scheduler=scheduler, steps=10)
                assert max(map(abs, weights), default=0) < 40, (tiny.name, sampler, scheduler)


def test_without_guidance_only_one_conditioning_runs(tiny: TinyModel):
    model, handle = cached(tiny, cache_ratio=0.0)
    assert torch.equal(tiny.sample(model, cfg=1.0), tiny.sample(cfg=1.0))
    assert "P" in [step.kind for step in handle.latest().steps]


def test_a_conditioning_that_comes_in_midway_runs_whole_once(tiny: TinyModel):
    early, late = (
        [[tensor, {**options, **span}]]
        for (tensor, options), span in (
            (tiny.positive[0], {"start_percent": 0.0, "end_percent": 0.47}),
            (tiny.negative[0], {"start_percent": 0.47, "end_percent": 1.0}),
        )
    )
    model, handle = cached(tiny, ExplicitSchedule((0,)), cache_ratio=0.0)
    positive = [*early, *late]
    assert torch.equal(tiny.sample(model, positive=positive, steps=8), tiny.sample(positive=positive, steps=8))
    assert sum(step.misses for step in handle.latest().steps) == 1


def test_a_failing_sampler_leaves_nothing_behind(tiny: TinyModel):
    plain = tiny.sample()
    model, handle = cached(tiny)
    failing = model.clone()
    failing.add_wrapper_with_key("apply_model", "failing", _fails_at(3))
    with pytest.raises(RuntimeError, match="third call"):
        tiny.sample(failing)
    assert nothing_is_left_on(tiny)
    assert torch.equal(tiny.sample(), plain)
    assert not handle.reports


def _fails_at(call: int) -> Callable:
    calls = []

    def wrapper(executor, *args, **kwargs):
        calls.append(None)
        if len(calls) == call:
            raise RuntimeError("third call")
        return executor(*args, **kwargs)

    return wrapper


def test_applying_twice_is_the_later_one(tiny: TinyModel):
    once, _ = cached(tiny)
    twice, handle = apply_tokencache(once, CacheSettings(cache_ratio=0.0), EVERY_THIRD)
    assert torch.equal(tiny.sample(twice), tiny.sample())
    assert len(handle.reports) == 1


def test_too_many_last_blocks_are_refused_when_the_node_runs(tiny: TinyModel):
    with pytest.raises(ValueError, match="has only"):
        cached(tiny, last_blocks=99)


def test_another_nodes_patch_inside_the_blocks_makes_the_run_whole_and_the_report_says_so():
    tiny = tiny_flux()
    patched = tiny.model.clone()
    patched.set_model_attn1_output_patch(lambda attention, options: attention)
    model, handle = apply_tokencache(patched, CacheSettings(), EVERY_THIRD)
    assert torch.equal(tiny.sample(model), tiny.sample(patched))
    assert handle.latest().compute == 1.0
    assert "another node patches the inside of blocks" in handle.latest().text()


def test_two_threads_sample_two_models_at_once():
    models = [tiny_pixart() for _ in range(2)]
    alone = [tiny.sample(cached(tiny, cache_ratio=0.5, shares="uniform")[0]) for tiny in models]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda tiny: tiny.sample(cached(tiny, cache_ratio=0.5, shares="uniform")[0]), models))
    assert all(torch.equal(a, b) for a, b in zip(alone, together))
    assert comfy.ldm.pixart.blocks.optimized_attention is comfy.ldm.modules.attention.optimized_attention
