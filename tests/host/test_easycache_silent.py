"""The host's own caches. EasyCache does nothing on models that never call the DIFFUSION_MODEL wrapper (PixArt, SD3);
TokenCache does, side by side. One on top of the other they run, and the report says so.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from tiny_families import TINY
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.families import family_of
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings

STEPS = 12


def block_tokens(tiny: TinyModel, model: Any) -> tuple[int, torch.Tensor]:
    """How many tokens the first attention projection of all blocks is given in a run, and the run's samples."""
    counted = [0]

    def count(module: torch.nn.Module, args: tuple) -> None:
        counted[0] += args[0].shape[0] * args[0].shape[1]

    network = tiny.model.model.diffusion_model
    first = [_first_projection(block) for block, _ in family_of(network).blocks(network)]
    handles = [layer.register_forward_pre_hook(count) for layer in first]
    try:
        samples = tiny.sample(model, steps=STEPS)
    finally:
        for handle in handles:
            handle.remove()
    return counted[0], samples


def _first_projection(block: torch.nn.Module) -> torch.nn.Module:
    """To queries, keys and values."""
    return next(layer for name, layer in block.named_modules() if name.endswith(("qkv", "linear1")))


@pytest.mark.parametrize(("name", "easycache_works"), [("Flux 1", True), ("PixArt alpha", False), ("SD3", False)])
def test_easycache_and_tokencache_side_by_side(name: str, easycache_works: bool):
    tiny = TINY[name]()
    plain, samples = block_tokens(tiny, tiny.model)
    (easy,) = EasyCacheNode.execute(
        tiny.model, reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False
    ).result
    with_easycache, easy_samples = block_tokens(tiny, easy)
    cached, _ = apply_tokencache(tiny.model, CacheSettings(), UniformSchedule())
    with_tokencache, _ = block_tokens(tiny, cached)
    assert (with_easycache < plain) is easycache_works
    assert torch.equal(easy_samples, samples) is not easycache_works
    assert with_tokencache < 0.7 * plain


@pytest.mark.parametrize(("node", "name"), [(EasyCacheNode, "EasyCache"), (LazyCacheNode, "LazyCache")])
@pytest.mark.parametrize("applied_first", [False, True])
def test_another_cache_on_top_is_named_in_the_report(node: Any, name: str, applied_first: bool):
    tiny = TINY["Flux 1"]()

    def apply(model: Any) -> Any:
        patched, handle = apply_tokencache(model, CacheSettings(), UniformSchedule())
        handles.append(handle)
        return patched

    def other(model: Any) -> Any:
        return node.execute(model, reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False).result[0]

    handles: list[Any] = []
    both = other(apply(tiny.model)) if applied_first else apply(other(tiny.model))
    assert tiny.sample(both, steps=STEPS).isfinite().all()
    note, *others = handles[0].latest().notes
    assert len(others) == (name == "LazyCache") and all("the model was not called" in other for other in others)
    assert note.startswith(f"{name} may skip steps of this run as well") and "one cache at a time" in note
