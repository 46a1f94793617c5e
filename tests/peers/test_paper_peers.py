"""The rivals written from papers: each proves itself before the benchmark runs it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from tiny_dit import tiny_dit

from peers import bwcache, fastcache, learning_to_cache, toca
from peers.cached_run import CachedRun, calibration_workload
from peers.peer import Peer
from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.dit.model import DiT

STEPS, TOKENS = 8, 16
PEERS = {peer.name: peer for module in (toca, bwcache, fastcache, learning_to_cache) for peer in module.PEERS}
FAST = {"toca": 4, "bwcache": 3.0, "fastcache": 1.0, "learning-to-cache": 0.9}
CASES = [
    pytest.param(peer, variant, id=f"{peer.name}-{n}")
    for peer in PEERS.values()
    for n, variant in enumerate(peer.variants)
]


@pytest.fixture
def workload() -> Workload:
    return Workload(tiny_dit(), Protocol(steps=STEPS, samples=2))


@contextmanager
def counted(model: DiT) -> Iterator[dict[str, list[int]]]:
    """What the model's own attentions and MLPs are really given: tokens a call."""
    tokens: dict[str, list[int]] = {"attn": [], "mlp": []}
    handles = [
        getattr(block, name).register_forward_pre_hook(lambda _, args, name=name: tokens[name].append(args[0].shape[1]))
        for block in model.blocks
        for name in tokens
    ]
    try:
        yield tokens
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("peer, variant", CASES)
def test_gentlest_knob_is_the_full_run(workload: Workload, peer: Peer, variant: dict):
    pictures, share = peer.run(workload, {**variant, peer.knob: peer.knobs[0]})
    assert torch.equal(pictures, workload.full(STEPS, "ddim"))
    assert share == 1


@pytest.mark.parametrize("peer, variant", CASES)
def test_fast_knob_computes_less_by_the_models_own_count(workload: Workload, peer: Peer, variant: dict):
    settings = {**variant, peer.knob: FAST[peer.name]}
    first, share = peer.run(workload, settings)  # which also makes what is fitted once
    with counted(workload.model) as tokens:
        pictures, again = peer.run(workload, settings)
    full = workload.full(STEPS, "ddim")
    assert share < 0.8 and pictures.isfinite().all() and not torch.allclose(pictures, full, atol=1e-3)
    assert again == share and torch.equal(pictures, first)
    really = sum(sum(calls) for calls in tokens.values()) / (2 * TOKENS * STEPS * len(workload.model.blocks))
    assert really == pytest.approx(share)


@pytest.mark.parametrize("peer, variant", CASES)
def test_compute_falls_along_the_knobs(workload: Workload, peer: Peer, variant: dict):
    shares = [peer.run(workload, {**variant, peer.knob: value})[1] for value in (*peer.knobs[::4], peer.knobs[-1])]
    assert shares == sorted(shares, reverse=True) and shares[-1] < shares[0]


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_model_is_as_before_afterwards(workload: Workload, peer: Peer):
    full = workload.full(STEPS, "ddim")
    peer.run(workload, {**peer.variants[0], peer.knob: FAST[peer.name]})
    assert not any("forward" in vars(module) for module in workload.model.modules())
    assert torch.equal(workload.full(STEPS, "ddim"), full)


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_model_is_as_before_after_an_error(workload: Workload, peer: Peer):
    def breaks(*_: object) -> None:
        raise RuntimeError("broken")

    handle = workload.model.blocks[1].register_forward_pre_hook(breaks)
    with pytest.raises(RuntimeError, match="broken"):
        peer.run(workload, {**peer.variants[0], peer.knob: FAST[peer.name]})
    handle.remove()
    assert not any("forward" in vars(module) for module in workload.model.modules())


def test_a_forward_that_was_swapped_before_is_put_back(workload: Workload):
    block = workload.model.blocks[0]
    own = block.forward
    block.forward = earlier = lambda *args, **options: own(*args, **options)
    toca.TocaRun(workload, 2, 0.5).sample()
    assert block.forward is earlier


def test_toca_computes_the_asked_for_tokens_and_no_attention_on_cached_steps(workload: Workload):
    with counted(workload.model) as tokens:
        toca.TocaRun(workload, interval=STEPS, ratio=0.8).sample()
    depth = len(workload.model.blocks)
    assert tokens["attn"] == [TOKENS] * depth
    expected = [
        toca.computed_tokens(0.8, TOKENS, layer / (depth - 1), step / (STEPS - 1))
        for step in range(1, STEPS)
        for layer in range(depth)
    ]
    assert tokens["mlp"] == [TOKENS] * depth + expected
    assert toca.computed_tokens(0.8, TOKENS, 0.5, 0.5) == math.ceil(0.2 * TOKENS)


def test_toca_prefers_what_others_attend_to_then_what_waited():
    run = toca.TocaRun(Workload(tiny_dit(), Protocol(steps=2, samples=1)), interval=2, ratio=0.9)
    x, c = torch.randn(2, TOKENS, 64), torch.randn(2, 64)
    run.step, run.mlp[0] = 1, torch.zeros(2, TOKENS, 64)
    run.influence[0], run.age[0] = torch.ones(2, TOKENS), torch.zeros(2, TOKENS)
    run.influence[0][0, 5], run.age[0][1, 9] = 3.0, 2.0
    run._refresh(0, x, toca.modulation_of(run.blocks[0], c), 1)
    assert run.mlp[0].abs().sum(-1).nonzero().tolist() == [[0, 5], [1, 9]]


def test_toca_marks_the_best_of_every_neighbourhood():
    best = toca.local_best(torch.tensor([[9.0, 1, 2, 8, 1, 1, 1, 1, 1, 1, 1, 1, 7, 1, 1, 6]]), 4)
    assert best[0, [0, 3, 12, 15]].all() and not best[0, [1, 2, 4, 13]].any()


def test_bwcache_decides_on_a_sequence_made_by_hand():
    window = bwcache.ReuseWindow(threshold=0.1, reuse=2)
    changes = iter([0.5, 0.09, 0.27, 0.31, 0.05])
    decisions = []
    for step in range(10):
        decisions.append(window.take())
        if not decisions[-1] and step:
            window.compare(next(changes))
    # 0.5 is too much; 0.09 is not; 0.27 over three steps is 0.09 a step; 0.31 over three is too much again
    assert decisions == [False, False, False, True, True, False, True, True, False, False]


def test_bwcache_measures_relative_l1():
    assert bwcache.relative_l1(torch.tensor([1.0, -3.0]), torch.tensor([2.0, -2.0])).item() == 0.5


def test_fastcache_map_is_exact_for_a_linear_block():
    random = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(8, 8, generator=random), torch.randn(8, generator=random)
    fit = fastcache.LinearFit()
    for _ in range(3):
        x = torch.randn(2, 50, 8, generator=random)
        fit.add(x, x @ weight + bias)
    x = torch.randn(2, 5, 8, generator=random)
    torch.testing.assert_close(fit.solve()(x), x @ weight + bias, rtol=0, atol=0.05)


def test_fastcache_chi_square_quantile():
    assert fastcache.chi_square_quantile(0.95, 100) == pytest.approx(124.342, rel=1e-4)


def test_fastcache_moves_the_tokens_that_changed_and_maps_the_others(workload: Workload):
    run = fastcache.FastCacheRun(workload, change=0.1, motion=1.0)
    random = torch.Generator().manual_seed(0)
    last, last_out, moved_out = torch.randn(3, 2, TOKENS, 64, generator=random)
    x = last + 1e-3
    x[0, [1, 5]] += 10
    x[1, 3] += 10
    run.embedded = last.clone(), last_out.clone()
    moving = run._split(x)
    assert (
        moving.shape == (2, 2, 64)
        and set(run.moving.tokens[0].tolist()) == {1, 5}
        and 3 in run.moving.tokens[1].tolist()
    )
    out = run._join(moved_out[:, :2])
    assert torch.equal(run.moving.gather(out), moved_out[:, :2])
    torch.testing.assert_close(out[:, 9], (last_out + run.maps[-1](x - last))[:, 9])


def test_fastcache_with_all_tokens_moving_is_that_without_motion(workload: Workload):
    without, share = fastcache.FastCacheRun(workload, change=0.4).sample()
    pictures, same = fastcache.FastCacheRun(workload, change=0.4, motion=1e-6).sample()
    assert share == pytest.approx(same) and share < 1
    torch.testing.assert_close(pictures, without, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("interval", [2, 3])
def test_learning_to_cache_never_reuses_on_full_steps(workload: Workload, interval: int):
    order = learning_to_cache.reuse_order(workload, interval)
    layers = 2 * len(workload.model.blocks)
    assert sorted(order) == [(step, layer) for step in range(STEPS) if step % interval for layer in range(layers)]


def test_learning_to_cache_measures_what_reusing_one_layer_does(workload: Workload):
    """A fork's error is that of a run in which one layer of one step reuses."""
    forking, guided = learning_to_cache.ForkingRun(workload, interval=2), []
    forking.sample()

    def keep(_: DiT, args: tuple, noise: torch.Tensor) -> None:
        positive, negative = noise.chunk(2)
        guided.append(negative + workload.protocol.cfg * (positive - negative))

    workload.model.register_forward_hook(keep)
    workload.full(STEPS, "ddim")
    for layer in range(2 * len(workload.model.blocks)):
        learning_to_cache.LayerRun(workload, frozenset({(1, layer)})).sample()
        error = (guided[-STEPS + 1] - guided[1]).square().sum().item()
        assert forking.grams[1][layer, layer].item() == pytest.approx(error, rel=1e-3) and error > 0


def test_a_fit_is_made_once_per_model_and_schedule(workload: Workload):
    maps = fastcache.linear_maps(workload)
    assert fastcache.linear_maps(Workload(workload.model, Protocol(steps=STEPS, samples=1))) is maps
    assert fastcache.linear_maps(Workload(workload.model, Protocol(steps=STEPS + 1))) is not maps
    assert fastcache.linear_maps(Workload(tiny_dit(), workload.protocol)) is not maps


def test_calibration_has_other_noise_and_classes(workload: Workload):
    calibration = calibration_workload(workload)
    assert not set(calibration.labels.tolist()) & set(workload.labels.tolist())
    assert not torch.equal(calibration.noise[0], workload.noise[0])


def test_cached_run_needs_a_method(workload: Workload):
    with pytest.raises(NotImplementedError):
        CachedRun(workload).sample()
