"""Faults that users of such nodes have met, in the real host: each is what the plain model, or an honest cache, would
give.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_execution.utils import CurrentNodeContext
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from comfy_extras.nodes_easycache import LazyCacheNode
from tiny_families import TINY
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.dit import DiTClassLabel
from tokencache_pack.nodes.host.dit_model import load_dit_model
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.nodes.report import TokenCacheReport
from tokencache_pack.tokencache_core.reporting.advice import advice
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings
from torch import Tensor

REFERENCE = Path(__file__).resolve().parents[2] / "reference" / "emoji-dit.safetensors"
EVERY_THIRD = UniformSchedule(interval=3, warmup=2)


@pytest.fixture(params=["DiT", "PixArt sigma", "Flux 1"])
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return TINY[request.param]()


@pytest.fixture
def dit() -> TinyModel:
    return TINY["DiT"]()


def cached(tiny: TinyModel, **settings: Any) -> tuple[ModelPatcher, Any]:
    return apply_tokencache(tiny.model, CacheSettings(**settings), EVERY_THIRD)


@torch.inference_mode()
def guided(
    tiny: TinyModel,
    model: ModelPatcher,
    sampler: Any,
    *,
    guider: type = comfy.samplers.CFGGuider,
    steps: int = 8,
    latent: Tensor | None = None,
    **more: Any,
) -> Tensor:
    """A run of SamplerCustomAdvanced."""
    made = guider(model)
    made.set_conds(tiny.positive, tiny.negative)
    made.set_cfg(3.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    noise = tiny.noise(2)
    latent = torch.zeros_like(noise) if latent is None else latent
    return made.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=1, **more)


class Pair(comfy.samplers.CFGGuider):
    """A guider that predicts two things at once."""

    def predict_noise(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        predicted = super().predict_noise(*args, **kwargs)
        return predicted, predicted


def euler_on_the_first(model: Callable, x: Tensor, sigmas: Tensor, extra_args: dict, **_: Any) -> Tensor:
    options = {name: value for name, value in extra_args.items() if name != "denoise_mask"}
    for sigma, after in zip(sigmas[:-1], sigmas[1:]):
        clean, _ = model.inner_model(x, sigma * x.new_ones(len(x)), **options)
        x = x + (x - clean) / sigma * (after - sigma)
    return x


@pytest.mark.parametrize("cache_ratio", [0.0, 1.0])
def test_a_guider_that_gives_a_pair_is_left_alone(tiny: TinyModel, cache_ratio: float):
    sampler = comfy.samplers.KSAMPLER(euler_on_the_first)
    model, handle = cached(tiny, cache_ratio=cache_ratio)
    plain, got = (guided(tiny, each, sampler, guider=Pair) for each in (tiny.model, model))
    assert torch.equal(got, plain) == (cache_ratio == 0) and got.isfinite().all()
    assert handle.latest().compute == (1.0 if cache_ratio == 0 else 4 / 8)


def langevin(model: Callable, x: Tensor, sigmas: Tensor, extra_args: dict, **_: Any) -> Tensor:
    """Euler's method, with a step by noise of its own at every sigma."""
    random = torch.Generator().manual_seed(1)
    for sigma, after in zip(sigmas[:-1], sigmas[1:]):
        if after > 0:
            model(x, sigma * x.new_ones(len(x)), **extra_args)
            x = x + 0.3 * x.std() * torch.randn(x.shape, generator=random)
        x = x + (x - model(x, sigma * x.new_ones(len(x)), **extra_args)) / sigma * (after - sigma)
    return x


def test_a_second_evaluation_at_one_sigma_is_computed_where_x_has_moved(tiny: TinyModel):
    model, handle = cached(tiny)
    guided(tiny, model, comfy.samplers.KSAMPLER(langevin))
    kinds = "".join(step.kind for step in handle.latest().steps)
    assert kinds == "II" + "II" + "PI" * 2 + "II" + "PI" * 2 + "I"  # the last step is evaluated once
    assert "several times at one sigma" in handle.latest().text()


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_2s_ancestral", "euler_ancestral"])
def test_samplers_that_evaluate_several_times_a_step_are_cached(sampler: str):
    reference = load_dit_model(str(REFERENCE))
    positive, negative = (DiTClassLabel.execute(reference, label).result[0] for label in ("2", ""))
    reference = TinyModel("the reference DiT", reference, positive, negative, (3, 32, 32))
    model, handle = cached(reference)
    reference.sample(model, steps=12, sampler=sampler)
    assert handle.latest().compute < 0.5 and "several times at one sigma" not in handle.latest().text()


def test_what_a_mask_puts_back_is_not_corrected(dit: TinyModel):
    mask = torch.zeros(2, 1, *dit.latent[1:])
    mask[..., : dit.latent[-1] // 2] = 1
    how = {"steps": 12, "latent": dit.noise(2, seed=9), "denoise_mask": mask}

    def run(model: ModelPatcher) -> Tensor:
        return guided(dit, model, comfy.samplers.sampler_object("euler"), **how)

    corrected, _ = cached(dit, corrector=1.0)
    kept = mask[:, 0] == 0
    plain, got = (run(each).movedim(1, -1) for each in (dit.model, corrected))
    assert torch.equal(got[kept], plain[kept]) and not torch.equal(got[~kept], plain[~kept])


def tiled(moves: bool) -> Callable:
    """A wrapper that calls the network for the left and the right half in turn, their border in another place each
    step.
    """

    def wrapper(apply_model: Callable, args: dict) -> Tensor:
        x, t, c = args["input"], args["timestep"], args["c"]
        shift = (4 if wrapper.calls % 2 else 0) if moves else 0
        wrapper.calls += 1
        turned = x.roll(shift, dims=-1)
        halves = [apply_model(part.contiguous(), t, **c) for part in turned.chunk(2, dim=-1)]
        return torch.cat(halves, dim=-1).roll(-shift, dims=-1)

    wrapper.calls = 0
    return wrapper


@pytest.mark.parametrize("moves", [False, True])
def test_parts_of_the_latent_that_change_their_place_are_computed(moves: bool):
    tiny = TINY["Flux 1"]()

    def run(model: ModelPatcher) -> Tensor:
        model = model.clone()
        model.set_model_unet_function_wrapper(tiled(moves))
        return tiny.sample(model, steps=12, latent=(tiny.latent[0], 16, 32))

    model, handle = cached(tiny)
    plain, got = run(tiny.model), run(model)
    report = handle.latest()
    assert ("moved from step to step" in report.text()) == moves
    assert (report.compute == 1.0) == moves and torch.equal(got, plain) == moves


@pytest.mark.parametrize("cache_ratio", [1.0, 0.5])
def test_what_is_kept_of_a_conditioning_goes_with_it_when_calls_are_split_and_joined(
    tiny: TinyModel, cache_ratio: float, monkeypatch: pytest.MonkeyPatch
):
    apart = []

    def memory_required(*args: Any, **kwargs: Any) -> float:
        return 1e18 if apart else 0.0

    def now_and_then(executor: Any, *args: Any) -> Any:
        calls.append(1)
        apart[:] = [True] * (len(calls) % 2)
        return executor(*args)

    monkeypatch.setattr(tiny.model.model, "memory_required", memory_required)
    calls: list[int] = []
    together, handle = cached(tiny, cache_ratio=cache_ratio, shares="uniform", score="round-robin")
    usual = tiny.sample(together, batch=2, steps=12)
    changing = together.clone()
    changing.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "memory", now_and_then)
    got, report = tiny.sample(changing, batch=2, steps=12), handle.latest()
    assert sum(step.misses for step in report.steps) == 0 and report.compute == handle.reports[0].compute
    assert (got - usual).norm() < 1e-5 * usual.norm()


def test_blocks_that_are_compiled_by_another_node_are_looked_through(tiny: TinyModel):
    plain = tiny.sample()
    patched = tiny.model.clone()
    name = {"DiT": "blocks", "PixArt": "blocks", "Flux": "double_blocks"}[tiny.name.split()[0]]
    for index, block in enumerate(getattr(tiny.model.model.diffusion_model, name)):
        patched.add_object_patch(f"diffusion_model.{name}.{index}", torch.compile(block, backend="eager"))
    expected, _ = cached(tiny)
    for settings in ({}, {"cache_ratio": 0.0}, {"cache_ratio": 0.5, "shares": "uniform"}):
        model, handle = apply_tokencache(patched, CacheSettings(**settings), EVERY_THIRD)
        got, report = tiny.sample(model), handle.latest()
        assert [step.kind for step in report.steps] == list("IIPPIP") and "was not cached" not in report.text()
        if not settings:
            torch.testing.assert_close(got, tiny.sample(expected), rtol=1e-4, atol=1e-5)
        elif settings["cache_ratio"] == 0.0:
            torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-5)
        else:
            assert report.compute < 1.0 and "torch.compile" in report.text()


def test_gradients_through_a_run_are_those_of_the_plain_model(dit: TinyModel):
    def learning(model: Callable, x: Tensor, sigmas: Tensor, extra_args: dict, **_: Any) -> Tensor:
        """As the host's own training node: a gradient an evaluation, at numbers that are no run."""
        with torch.inference_mode(False), torch.enable_grad():
            for number in range(5):
                started = x.clone().requires_grad_(True)
                model(started, torch.full((len(x),), 1.0 + number), **extra_args).square().mean().backward()
                gradients.append(started.grad)
        return x

    gradients: list[Tensor] = []
    model, handle = cached(dit)
    for each in (dit.model, model):
        guided(dit, each, comfy.samplers.KSAMPLER(learning))
    assert len(gradients) == 10 and not handle.reports
    assert all(torch.equal(plain, got) for plain, got in zip(gradients[:5], gradients[5:]))


@pytest.mark.parametrize("behind", [True, False])
def test_steps_that_lazycache_skips_are_made_up_for_and_told_of(dit: TinyModel, behind: bool):
    def lazily(model: ModelPatcher) -> ModelPatcher:
        return LazyCacheNode.execute(
            model, reuse_threshold=1.0, start_percent=0.0, end_percent=1.0, verbose=False
        ).result[0]

    model, handle = cached(dit) if behind else apply_tokencache(lazily(dit.model), CacheSettings(), EVERY_THIRD)
    assert dit.sample(lazily(model) if behind else model, steps=12).isfinite().all()
    report, i_steps = handle.latest(), {0, 1, 4, 7, 10}
    assert len(report.steps) < 12 and all(step.available for step in report.steps)
    for before, step in zip(report.steps, report.steps[1:]):
        assert (step.kind == "I") == any(place in i_steps for place in range(before.index + 1, step.index + 1))
    assert f"on {12 - len(report.steps)} of 12 steps the model was not called" in report.text()


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform"])
def test_context_windows_that_move_are_computed_and_told_of(schedule: str):
    tiny = TINY["Wan 2.1 T2V"]()
    windows = {"context_length": 4, "context_overlap": 1, "context_stride": 1, "closed_loop": False, "dim": 2}
    windowed = ContextWindowsManualNode.execute(
        tiny.model, context_schedule=schedule, fuse_method="pyramid", freenoise=False, **windows
    ).result[0]
    model, handle = apply_tokencache(windowed, CacheSettings(), EVERY_THIRD)
    tiny.sample(model, latent=(16, 9, 8, 8))
    report, moves = handle.latest(), schedule == "standard_uniform"
    assert any(step.misses for step in report.steps) == moves
    assert ("the context windows move from step to step" in report.text()) == moves
    assert not any("conditionings or areas" in text for text in advice(report))


def shown(handle: Any, prompt: str, item: int | None = None) -> str:
    with CurrentNodeContext(prompt, "report", item):
        return TokenCacheReport.execute({}, handle).result[0]


def test_a_report_is_of_this_prompts_run_or_says_that_it_is_of_another(dit: TinyModel):
    model, handle = cached(dit)
    with CurrentNodeContext("first", "sampler", 0):
        dit.sample(model)
    assert "an earlier run" not in shown(handle, "first") and "an earlier run" not in shown(handle, "first")
    assert "this time nothing was sampled" in shown(handle, "second")


def test_each_latent_of_a_list_has_its_own_report(dit: TinyModel):
    model, handle = cached(dit)
    for item, steps in enumerate((6, 8, 10)):
        with CurrentNodeContext("prompt", "sampler", item):
            dit.sample(model, steps=steps)
    counts = [int(shown(handle, "prompt", item).split("TokenCache: ")[1].split()[0]) for item in range(3)]
    assert counts == [6, 8, 10]


def test_of_two_apply_nodes_in_a_row_the_first_says_that_the_second_counts(dit: TinyModel):
    first, handle = cached(dit)
    second, last = apply_tokencache(first, CacheSettings(), EVERY_THIRD)
    assert "its settings are the ones that count" in shown(handle, "first")
    with CurrentNodeContext("first", "sampler", 0):
        dit.sample(first)  # a sampler between the two
    assert shown(handle, "first").startswith("TokenCache: 6 evaluations")
    apply_tokencache(first, CacheSettings(), EVERY_THIRD)
    with CurrentNodeContext("second", "sampler", 0):
        dit.sample(second)
    notice = shown(handle, "second")  # and no numbers of a run long past
    assert "Another Apply TokenCache comes after this one" in notice and "evaluations" not in notice
    assert "an earlier run" not in shown(last, "second") and shown(last, "second").startswith(
        "TokenCache: 6 evaluations"
    )


def test_a_report_names_its_run_and_what_it_took_without_the_cache(dit: TinyModel):
    model, handle = cached(dit)
    with CurrentNodeContext("first", "12", 0):
        dit.sample(model)
    named = r"^run: 6 steps, 128 x 128 px, node 12, finished at \d\d:\d\d:\d\d$"
    assert re.search(named, shown(handle, "first"), re.MULTILINE)
    assert "the same run without" not in shown(handle, "first")
    handle.measured(12.3, 4.1)
    assert "TokenCache: 6 evaluations in 4.10 s, " in shown(handle, "first")
    assert "as many steps without TokenCache: 12.30 s, 3.00 times as long" in shown(handle, "first")
    handle.reports[-1] = replace(handle.latest(), teaches=True, plain_seconds=0.0, timed_seconds=0.0)
    dit.sample(model)
    assert handle.latest().plain_seconds == handle.reports[0].seconds > 0
