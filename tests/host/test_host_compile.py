"""torch.compile in the real host: the blocks stay compiled under the cache, and nothing is compiled anew for another
image.
"""

from __future__ import annotations

import gc

import comfy.ldm.flux.math
import pytest
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from tiny_models import TinyModel, tiny_dit, tiny_flux
from tokencache_pack.nodes.cache import ApplyTokenCache
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

APPLY = {
    "forecast_order": 1,
    "last_blocks": 0,
    "context": "forecast",
    "shares": "uniform",
    "schedule": UniformSchedule(),
}


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture(params=[tiny_dit, tiny_flux], ids=["DiT", "Flux"])
def tiny(request, tmp_path, monkeypatch) -> TinyModel:
    """With torch's attention, as --use-pytorch-cross-attention has it: the host's other one on a CPU compiles the free
    memory in.
    """
    if request.param is tiny_flux:
        monkeypatch.setattr(comfy.ldm.flux.math, "optimized_attention", attention_pytorch)
        return tiny_flux()
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    for block in tiny.model.model.diffusion_model.blocks:
        block.attn.attention = attention_pytorch
    return tiny


def skip_options(entries) -> list[bool]:
    """As the host's TorchCompileModel node has it."""
    return ["transformer_options" not in entry.name for entry in entries]


def compiling(model, counter: CompileCounter):
    clone = model.clone()
    set_torch_compile_wrapper(clone, backend=counter, options={"guard_filter_fn": skip_options})
    return clone


def both(tiny: TinyModel, counter: CompileCounter, cached_first: bool, cache_ratio: float):
    """The MODEL compiled and cached, in either order of the nodes, and the report's handle."""
    if cached_first:
        model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, cache_ratio=cache_ratio).result
        return compiling(model, counter), handle
    return ApplyTokenCache.execute(compiling(tiny.model, counter), **APPLY, cache_ratio=cache_ratio).result


@pytest.mark.parametrize("cached_first", [True, False])
@pytest.mark.parametrize(("cache_ratio", "context"), [(1.0, "forecast"), (0.7, "computed"), (0.0, "forecast")])
def test_compiled_and_cached_is_cached(tiny, cached_first, cache_ratio, context, monkeypatch):
    monkeypatch.setitem(APPLY, "context", context)
    counter = CompileCounter()
    plain, _ = ApplyTokenCache.execute(tiny.model, **APPLY, cache_ratio=cache_ratio).result
    model, handle = both(tiny, counter, cached_first, cache_ratio)
    expected = tiny.sample(plain, batch=2)
    assert (tiny.sample(model, batch=2) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert counter.frame_count > 0 and "P" in [step.kind for step in handle.latest().steps]
    assert not handle.latest().notes


@pytest.mark.parametrize("cached_first", [True, False])
def test_where_the_cache_reaches_into_attention_blocks_run_uncompiled_and_the_report_says_so(tiny, cached_first):
    counter = CompileCounter()
    plain, _ = ApplyTokenCache.execute(tiny.model, **APPLY, cache_ratio=0.7).result
    tiny.sample(compiling(tiny.model, counter))  # what a plain run has compiled must not serve this one
    compiled = counter.frame_count
    model, handle = both(tiny, counter, cached_first, 0.7)
    expected = tiny.sample(plain, batch=2)
    assert (tiny.sample(model, batch=2) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (
        counter.frame_count == compiled
        and "torch.compile was left out: computed tokens attend to the keys and values of all tokens (context forecast)"
        in handle.latest().text()
    )


@pytest.mark.parametrize(("cache_ratio", "context"), [(1.0, "forecast"), (0.7, "computed")])
def test_nothing_is_compiled_for_another_image_seed_prompt_or_run(tiny, cache_ratio, context, monkeypatch):
    monkeypatch.setitem(APPLY, "context", context)
    counter = CompileCounter()
    model, _ = both(tiny, counter, True, cache_ratio)
    tiny.sample(model, batch=2, seed=1)
    compiled, recompiled = counter.frame_count, counters["recompiles"].copy()
    for seed in (2, 3):
        tiny.sample(model, batch=2, seed=seed, positive=tiny.negative)
        tiny.sample(model, batch=2, seed=seed, steps=8)
    assert counter.frame_count == compiled and counters["recompiles"] == recompiled
    assert not counters["frames"].get("recompile_limit")


def test_a_plain_run_after_a_cached_one_is_compiled_as_the_host_does(tiny):
    counter = CompileCounter()
    model, _ = both(tiny, counter, True, 1.0)
    tiny.sample(model)
    of_blocks = counter.frame_count
    expected, plain = tiny.sample(), tiny.sample(compiling(tiny.model, counter))
    assert (plain - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert counter.frame_count > of_blocks


@pytest.mark.parametrize("cache_ratio", [1.0, 0.7])
def test_memory_does_not_grow_over_images(tiny, cache_ratio):
    """Tensors alive after 20 images are those after 10, of which the handle keeps the reports."""
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, cache_ratio=cache_ratio).result

    def alive() -> int:
        gc.collect()
        return sum(kept.nbytes for kept in gc.get_objects() if type(kept) is torch.Tensor and not kept.is_sparse)

    for seed in range(10):
        tiny.sample(model, seed=seed, steps=4)
    before = alive()
    for seed in range(10, 20):
        tiny.sample(model, seed=seed, steps=4)
    assert alive() <= before
