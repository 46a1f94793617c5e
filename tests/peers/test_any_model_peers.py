"""The rivals that sample any model, on a DiT, a text-to-image model and its edits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny_dit import tiny_dit
from tiny_flux_model import EXAMPLES, tiny_text_to_image

from peers.comfy_caches import sample_model, sample_on_host, with_input_of_its_own
from peers.host_models import host_model
from peers.host_solvers import host_solvers
from peers.meancache import PEAK, average_weight, interval_costs
from peers.meancache import computed_steps as shortest_path
from peers.registry import MODULES, peers_named
from peers.spectrum import WARMUP, chebyshev_weights, computed_steps
from tokencache_core.bench.workload import Protocol, SampledWorkload, workload_of
from tokencache_core.dit.sampled import SampledDiT
from tokencache_core.flux.edits import Edit, SampledEdits
from tokencache_core.flux.sampled import SampledFlux
from tokencache_core.likeness.metrics import psnr
from tokencache_core.sampling.sigma_schedule import SigmaSchedule

STEPS = 12
OWN = ("spectrum", "meancache", "taylorseer-even")
HOSTS = ("full-host", "easycache", "lazycache")
FAST = {"spectrum": {"growth": 2.0}, "meancache": {"share": 0.4}, "taylorseer-even": {"order": 1, "interval": 4}}


def edits() -> list[Edit]:
    random = torch.Generator().manual_seed(0)
    return [Edit(prompt, torch.rand(3, 16, 16, generator=random) * 2 - 1) for prompt in EXAMPLES]


KINDS = {
    "dit": lambda: SampledDiT(tiny_dit(in_channels=3, learn_sigma=False)),
    "flux": lambda: SampledFlux(tiny_text_to_image()),
    "edits": lambda: SampledEdits(tiny_text_to_image(), edits()),
}


@pytest.fixture(scope="module", params=KINDS)
def workload(request: pytest.FixtureRequest) -> SampledWorkload:
    schedule = SigmaSchedule() if request.param == "dit" else SigmaSchedule("flow", 3.0)
    return workload_of(KINDS[request.param](), Protocol(steps=STEPS, samples=2, cfg=3.0, schedule=schedule))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return float(psnr(a, b, clamp=False).min()) >= 60


@pytest.mark.parametrize("name", OWN)
def test_at_its_gentlest_it_is_the_full_run(workload, name):
    (peer,) = peers_named([name])
    pictures, share = peer.run(workload, {**peer.variants[0], peer.knob: peer.knobs[0]})
    assert torch.equal(pictures, workload.full(STEPS, "ddim")) and share == 1.0


@pytest.mark.parametrize("name", OWN)
def test_faster_it_calls_the_blocks_on_its_share_of_the_steps(workload, name):
    (peer,) = peers_named([name])
    peer.run(workload, FAST[name])  # which also makes what is fitted once
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    handle = workload.blocks[0].register_forward_pre_hook(count)
    block = workload.blocks[1].forward
    try:
        pictures, share = peer.run(workload, FAST[name])
    finally:
        handle.remove()
    assert share < 0.7 and pictures.isfinite().all()
    assert calls == (share * STEPS if name == "meancache" else STEPS)  # spectrum goes through blocks that it passes by
    assert not torch.equal(pictures, workload.full(STEPS, "ddim"))
    assert workload.blocks[1].forward == block


@pytest.mark.parametrize("name", HOSTS)
def test_on_the_host_its_gentlest_is_our_full_run(workload, name):
    (peer,) = [peer for peer in peers_named([name]) if peer.name == name]
    pictures, share = peer.run(workload, {**peer.variants[0], peer.knob: peer.knobs[0]})
    assert share == 1.0 and close(pictures, workload.full(STEPS, "ddim"))


def test_on_the_host_a_cache_skips_what_it_says(workload):
    peer = peers_named(["easycache"])[1]
    pictures, share = peer.run(workload, {**peer.variants[0], peer.knob: peer.knobs[-1]})
    assert 0 < share < 0.7 and not close(pictures, workload.full(STEPS, "ddim"))


def test_on_the_host_a_cache_that_adds_to_its_input_leaves_x_as_it_is(workload):
    from comfy.patcher_extension import WrappersMP

    def adding(executor, x, *args, **kwargs):
        output = executor(x, *args, **kwargs).clone()
        x += 1
        return output

    model = with_input_of_its_own(host_model(workload))
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "adding", adding)
    assert torch.equal(sample_model(model, workload)[0], sample_on_host(workload)[0])


def test_solvers_of_the_host_evaluate_once_a_step(workload):
    for solver, solve in host_solvers(workload.device).items():
        calls = []
        handle = workload.sampled.network.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        pictures = solve(workload, 7)
        handle.remove()
        assert len(calls) == 7 and pictures.isfinite().all(), solver
        errors = [float((solve(workload, steps) - workload.exact()).square().mean()) for steps in (6, 40)]
        assert errors[1] < 0.2 * errors[0], solver


def test_others_are_for_dits_alone():
    flux = workload_of(KINDS["flux"](), Protocol(steps=4, samples=1, schedule=SigmaSchedule("flow", 3.0)))
    suited = {name for name in MODULES if isinstance(flux, peers_named([name])[-1].models)}
    assert suited == {*OWN, *HOSTS}


def test_chebyshev_weights_fit_what_was_kept():
    steps, known = 30, list(range(0, 30, 2))
    cubic = np.poly1d([1.0, -2.0, 0.5, 3.0])
    values = cubic(np.array(known) / 10)
    assert chebyshev_weights(known, 15, steps) @ values == pytest.approx(cubic(1.5), rel=0.02)
    assert sum(chebyshev_weights(known, 15, steps)) == pytest.approx(1.0, abs=0.02)  # the ridge pulls it a little


def test_spectrum_s_windows_grow():
    assert list(computed_steps(12, 0.0)) == list(range(12))
    assert list(computed_steps(20, 1.0)) == [0, 1, 2, 3, 5, 8, 12, 17]
    assert list(computed_steps(3, 1.0)) == [0, 1, 2] and WARMUP == 4


def test_meancache_is_exact_where_velocities_change_evenly():
    """v = t: from v(1) and v(0.8) the average over [0.8, 0.2] is 0.5."""
    weight = average_weight(1.0, 0.8, 0.2)
    assert 0.8 + weight * (0.8 - 1.0) == pytest.approx(0.5)


def test_meancache_finds_the_shortest_path(workload):
    costs = interval_costs(workload)
    assert costs[0, 0, 1] == pytest.approx(0, abs=1e-6)  # an interval of one step is exact

    def total(places: tuple[int, ...]) -> float:
        ends = (*places[1:], STEPS)
        return sum(costs[before, now, end] ** PEAK for before, now, end in zip((0, *places), places, ends))

    every = [(0, *rest) for rest in itertools.combinations(range(1, STEPS), 4)]
    assert total(shortest_path(costs, 5)) == pytest.approx(min(map(total, every)))
