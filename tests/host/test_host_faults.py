"""Runs that break off in the real host: nothing is left behind, and the next run equals one on a model that is new."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import pytest
import torch
from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from tiny_families import TINY
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.families import family_of
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.tokencache_core.engine.session import Session
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings
from torch import Tensor, nn

SCHEDULE, STEPS = UniformSchedule(interval=3, warmup=2), 8
RUNS = {"DiT": {"cache_ratio": 0.5, "shares": "uniform"}, "Flux 1": {}}


@pytest.fixture(params=["DiT", "Flux 1"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def cached(tiny: TinyModel, **settings: Any) -> tuple[ModelPatcher, Any]:
    return apply_tokencache(tiny.model, CacheSettings(**settings), SCHEDULE)


def blocks_of(tiny: TinyModel) -> list[nn.Module]:
    network = tiny.model.model.diffusion_model
    return [block for block, _ in family_of(network).blocks(network)]


@contextmanager
def in_a_block(tiny: TinyModel, call: int, happens: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """In the last block, the output of a layer goes through `happens` at this call of it, counted from 1."""
    layer = next(layer for layer in blocks_of(tiny)[-1].modules() if hasattr(layer, "in_features"))
    calls: list[int] = []

    def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        calls.append(1)
        return happens(output) if len(calls) == call else output

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def with_hook(model: ModelPatcher, kind: str, at: int, error: BaseException) -> ModelPatcher:
    """Another node's wrapper, which fails at this call of it."""
    calls: list[int] = []

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise error
        return executor(*args, **kwargs)

    clone = model.clone()
    clone.add_wrapper_with_key(kind, "failing", wrapper)
    return clone


def fails_in_block(tiny: TinyModel, model: ModelPatcher) -> None:
    def fail(output: Tensor) -> Tensor:
        raise RuntimeError("in a block")

    with in_a_block(tiny, 1, fail), pytest.raises(RuntimeError, match="in a block"):
        tiny.sample(model, steps=STEPS)


def fails_in_hook(kind: str, at: int) -> Callable[[TinyModel, ModelPatcher], None]:
    def run(tiny: TinyModel, model: ModelPatcher) -> None:
        with pytest.raises(KeyError, match="a hook"):
            tiny.sample(with_hook(model, kind, at, KeyError("a hook")), steps=STEPS)

    return run


def is_interrupted(tiny: TinyModel, model: ModelPatcher) -> None:
    broken = with_hook(model, WrappersMP.PREDICT_NOISE, 4, InterruptProcessingException())
    with pytest.raises(InterruptProcessingException):
        tiny.sample(broken, steps=STEPS)


def gives_nan(tiny: TinyModel, model: ModelPatcher) -> None:
    with in_a_block(tiny, 2, lambda output: output * torch.nan):
        assert not tiny.sample(model, steps=STEPS).isfinite().all()


def is_unloaded(tiny: TinyModel, model: ModelPatcher) -> None:
    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            comfy.model_management.unload_all_models()
        return executor(*args, **kwargs)

    calls: list[int] = []
    unloading = model.clone()
    unloading.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "unloading", wrapper)
    assert torch.equal(tiny.sample(unloading, steps=STEPS), tiny.sample(model, steps=STEPS))


def is_sampled_otherwise(tiny: TinyModel, model: ModelPatcher) -> None:
    channels, height, width = tiny.latent
    tiny.sample(model, steps=5, batch=2, latent=(channels, height + 4, width), cfg=1.0, seed=7)


FAULTS = {
    "an error in a block": fails_in_block,
    "an error in a hook around an evaluation": fails_in_hook(WrappersMP.PREDICT_NOISE, 4),
    "an error in a hook around a call of the network": fails_in_hook(WrappersMP.APPLY_MODEL, 4),
    "an error in a hook around the run": fails_in_hook(WrappersMP.OUTER_SAMPLE, 1),
    "an interruption": is_interrupted,
    "NaN in a block": gives_nan,
    "the model unloaded between two steps": is_unloaded,
    "another size, batch, seed and cfg": is_sampled_otherwise,
}


@pytest.mark.parametrize("happens", FAULTS.values(), ids=FAULTS)
def test_the_next_run_is_one_on_a_new_model(name: str, happens: Callable):
    settings, tiny, new = RUNS[name], TINY[name](), TINY[name]()
    expected, plain = new.sample(cached(new, **settings)[0], steps=STEPS), new.sample(steps=STEPS)
    model, handle = cached(tiny, **settings)
    happens(tiny, model)
    gc.collect()
    assert not any(type(each) is Session for each in gc.get_objects())
    assert not any("forward" in module.__dict__ for module in tiny.model.model.diffusion_model.modules())
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks_of(tiny))
    assert torch.equal(tiny.sample(model, steps=STEPS), expected)
    assert torch.equal(tiny.sample(steps=STEPS), plain)  # the node is removed
    assert [step.kind for step in handle.latest().steps] == list("IIPPIPPI")


def test_out_of_memory_is_tried_again_without_the_cache_and_the_run_goes_on(name: str):
    tiny = TINY[name]()
    plain = tiny.sample(steps=STEPS)

    def out_of_memory(output: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("injected")

    for cache_ratio in (0.0, 1.0):
        model, handle = cached(tiny, cache_ratio=cache_ratio)
        usual = tiny.sample(model, steps=STEPS)
        with in_a_block(tiny, 3, out_of_memory):  # on an I-step
            got = tiny.sample(model, steps=STEPS)
        report = handle.latest()
        assert "memory ran out" in report.text() and len(report.steps) == STEPS
        assert torch.equal(got, plain) if cache_ratio == 0 else got.isfinite().all()
        computed = [1, 1, 0, 0, 1, 1, 0, 1]  # the step after finds nothing
        assert [step.compute for step in report.steps] == (computed if cache_ratio else [1] * STEPS)
        assert torch.equal(tiny.sample(model, steps=STEPS), usual)


def test_memory_that_runs_out_again_at_once_is_the_hosts_to_deal_with(name: str):
    tiny = TINY[name]()

    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("injected")

    model, handle = cached(tiny)
    expected = tiny.sample(model, steps=STEPS)
    handles = [block.register_forward_pre_hook(out_of_memory) for block in blocks_of(tiny)]
    with pytest.raises(torch.OutOfMemoryError, match="injected"):
        tiny.sample(model, steps=STEPS)
    for each in handles:
        each.remove()
    assert torch.equal(tiny.sample(model, steps=STEPS), expected)
