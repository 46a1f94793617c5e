"""The peers that a library runs prove themselves: whole where they are told to be, faster where not, and gone when they
are done.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_dit import tiny_dit
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from peers.peer import Peer, Settings
from peers.registry import MODULES, peers_named
from peers.wrapped_dit import WrappedDiT
from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.dit.model import DiT
from tokencache_core.likeness.metrics import psnr

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = {"diffusers_caches": "diffusers", "cache_dit_caches": "cache_dit", "comfy_caches": "comfy"}
NAMES = [name for name, module in MODULES.items() if module in LIBRARIES]
HOST_DB = 60  # the host has another attention kernel and a sigma table of its own
STEPS = 12


@pytest.fixture(scope="module")
def model() -> DiT:
    """Random weights, the gates' among them, so that every block matters."""
    return tiny_dit(in_channels=3, learn_sigma=False)


def workload(model: DiT, **changes: object) -> Workload:
    return Workload(model, Protocol(**{"samples": 2, "steps": STEPS, **changes}))


def full(work: Workload) -> Tensor:
    return work.full(work.protocol.steps, work.protocol.solver)


def installed_peers() -> list:
    """Each peer as a parameter, or a skipped one by the name of those whose library is missing."""
    found = []
    for name in NAMES:
        library = LIBRARIES[MODULES[name]]
        if importlib.util.find_spec(library) is None:
            found.append(pytest.param(None, id=name, marks=pytest.mark.skip(reason=f"{library} is not installed")))
        else:
            found += [pytest.param(peer, id=f"{name}-{peer.knob}") for peer in peers_named([name]) if peer.name == name]
    return found


@pytest.fixture(params=installed_peers())
def peer(request: pytest.FixtureRequest) -> Peer:
    return request.param


def settings_of(peer: Peer, index: int) -> list[Settings]:
    """Each variant at one of its knob's values."""
    return [{**variant, peer.knob: peer.knobs[index]} for variant in peer.variants]


def fast_settings(peer: Peer) -> list[Settings]:
    if peer.baseline == peer.name:
        pytest.skip("the host's plain run has one setting")
    return settings_of(peer, -1)


def alike(a: Tensor, b: Tensor, work: Workload) -> bool:
    return float(psnr(a, b, clamp=False).min()) >= HOST_DB


class Computed:
    """Halves of blocks (attention, MLP) that any copy of the network really computes, by rows."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, module: nn.Module, inputs: tuple) -> None:
        if type(module).__name__ in ("Attention", "Mlp"):
            self.rows += inputs[0].shape[0]


class Broken(Computed):
    """The network fails while caches are in use."""

    def __call__(self, module: nn.Module, inputs: tuple) -> None:
        super().__call__(module, inputs)
        if self.rows > 30:  # in the second step that is computed
            raise ArithmeticError("the network broke")


@contextmanager
def watched(watch: Computed) -> Iterator[Computed]:
    handle = register_module_forward_pre_hook(watch)
    try:
        yield watch
    finally:
        handle.remove()


def state_of(model: DiT) -> list:
    """All that a library could have left on a model: attributes, forwards, hooks and submodules, and its weights'
    places and bits.
    """
    modules = [
        (
            name,
            id(module),
            type(module),
            {key: id(value) for key, value in vars(module).items()},
            [(key, len(value)) for key, value in vars(module).items() if isinstance(value, dict)],
        )
        for name, module in model.named_modules()
    ]
    return [
        modules,
        [
            (name, weight.data_ptr(), weight.sum().item(), weight.requires_grad)
            for name, weight in model.named_parameters()
        ],
    ]


@pytest.mark.parametrize("changes", [{}, {"cfg": 1.0}, {"solver": "dpmpp_2m"}, {"samples": 1}])
def test_the_wrapped_dit_is_the_dit(model, changes):
    work = workload(model, **changes)
    pictures, share = WrappedDiT(model).sample(work)
    assert torch.equal(pictures, full(work)) and share == 1.0


@pytest.mark.parametrize("changes", [{}, {"cfg": 1.0}, {"solver": "dpmpp_2m"}])
def test_at_its_gentlest_it_is_the_full_run(model, peer, changes):
    work = workload(model, **changes)
    for settings in settings_of(peer, 0):
        pictures, share = peer.run(work, settings)
        assert share == 1.0
        if peer.baseline == "full":
            assert torch.equal(pictures, full(work))
        else:
            assert alike(pictures, full(work), work)
            baseline = peers_named([peer.baseline])[0]
            assert torch.equal(pictures, baseline.run(work, settings_of(baseline, 0)[0])[0])


def test_at_its_fastest_it_computes_less(model, peer):
    work = workload(model)
    for settings in fast_settings(peer):
        with watched(Computed()) as computed:
            pictures, share = peer.run(work, settings)
        # halves, rows, steps, blocks
        assert share == pytest.approx(computed.rows / (2 * 4 * STEPS * model.config.depth))
        assert 0 < share < 0.7
        assert pictures.shape == work.noise.shape and pictures.isfinite().all()
        assert float(psnr(pictures, full(work), clamp=False).max()) < HOST_DB


def test_the_compute_share_falls_along_the_knob(model, peer):
    work, places = workload(model), (0, len(peer.knobs) // 2, -1)
    for variant in peer.variants:
        shares = [peer.run(work, {**variant, peer.knob: peer.knobs[place]})[1] for place in places]
        assert shares == sorted(shares, reverse=True)


def test_the_model_is_left_as_it_was(model, peer):
    work, before = workload(model), state_of(model)
    for settings in settings_of(peer, -1):
        peer.run(work, settings)
        assert state_of(model) == before
    assert torch.equal(full(work), full(workload(model)))


def test_an_error_in_mid_run_leaves_nothing_behind(model, peer):
    work = workload(model)
    for settings in settings_of(peer, -1):
        expected, before = peer.run(work, settings), state_of(model)
        with pytest.raises(ArithmeticError), watched(Broken()):
            peer.run(work, settings)
        assert state_of(model) == before
        pictures, share = peer.run(work, settings)
        assert torch.equal(pictures, expected[0]) and share == expected[1]


def test_a_run_knows_nothing_of_the_one_before(model, peer):
    work = workload(model)
    for settings in settings_of(peer, -1):
        pictures, share = peer.run(work, settings)
        peer.run(workload(model, samples=3, steps=5, seed=9), settings)  # another shape and length in between
        again, share_again = peer.run(work, settings)
        assert torch.equal(pictures, again) and share == share_again


def test_samples_and_conditions_are_not_mixed_up(model, peer):
    """Both conditions go through as one batch: in another order the samples come out in that order."""
    work = workload(model)
    turned = Workload(model, work.protocol, work.conditions[::-1])
    turned.noise = work.noise.flip(0)
    for settings in settings_of(peer, len(peer.knobs) // 3):
        (pictures, share), (reverse, share_reverse) = peer.run(work, settings), peer.run(turned, settings)
        assert share == share_reverse and alike(pictures, reverse.flip(0), work)


def test_magcache_is_calibrated_once_for_a_model_and_protocol(capsys):
    caches = pytest.importorskip("peers.diffusers_caches")
    model = tiny_dit(in_channels=3, learn_sigma=False)
    with watched(Computed()) as computed:
        ratios = caches.mag_ratios(workload(model))
        calls = computed.rows
        assert caches.mag_ratios(workload(model, samples=1, seed=5)) is ratios and computed.rows == calls
    assert len(ratios) == STEPS and ratios[0] == 1.0 and len(set(ratios)) > 2
    assert len(caches.mag_ratios(workload(model, steps=7))) == 7
    assert capsys.readouterr().out == ""


def test_the_library_of_dbcache_forgets_its_mark(model):
    caches = pytest.importorskip("peers.cache_dit_caches")
    from cache_dit.caching.block_adapters import FakeDiffusionPipeline

    caches.PEERS[0].run(workload(model), settings_of(caches.PEERS[0], -1)[0])
    assert not hasattr(FakeDiffusionPipeline, "_is_cached")


def test_unknown_names_are_told():
    with pytest.raises(ValueError, match="no peer 'teacache': choose from first-block-cache, taylorseer"):
        peers_named(["teacache"])


def test_a_baseline_comes_with_those_that_name_it():
    assert [peer.name for peer in peers_named(["easycache", "easycache"])] == ["full-host", "easycache"]
    assert [peer.name for peer in peers_named(["lazycache", "full-host"])] == ["full-host", "lazycache"]


def test_a_method_may_be_swept_along_two_knobs():
    pytest.importorskip("diffusers")
    assert [(peer.name, peer.knob) for peer in peers_named(["magcache"])] == [
        ("magcache", "threshold"),
        ("magcache", "max_skip_steps"),
    ]


def python(code: str, **environment: str) -> str:
    """What a fresh Python prints in the repository's root; the arguments are none of ComfyUI's."""
    done = subprocess.run(
        [sys.executable, "-c", code, "bench", "--peers", "all"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_registry_needs_no_library():
    code = (
        "import sys, peers.registry; print(sorted({'diffusers', 'cache_dit', 'comfy', 'peers.diffusers_caches'} & "
        "set(sys.modules)))"
    )
    assert python(code) == "[]"


@pytest.mark.parametrize(
    "name, library, remedy",
    [
        ("taylorseer", "diffusers", 'pip install "diffusers'),
        ("dbcache", "cache_dit", 'pip install "cache-dit=='),
        ("easycache", "", "COMFYUI_PATH"),
    ],
)
def test_a_missing_library_is_told_with_its_remedy(name, library, remedy):
    code = f"""
import sys
if {library!r}: sys.modules[{library!r}] = None     # as if it were not installed
from peers.registry import peers_named
try: peers_named([{name!r}])
except ValueError as error: print(error)
"""
    told = python(code, COMFYUI_PATH=str(ROOT / "tests"))
    assert told.startswith(f"the peer {name} cannot run here") and remedy in told


def test_the_host_runs_in_a_process_of_its_own_arguments():
    """Without this suite's own preparations: from a plain `python -m`, with the repository first on the path."""
    code = """
import sys, torch
sys.path.append("tests/support")
from tiny_dit import tiny_dit
from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.likeness.metrics import psnr
from peers.registry import peers_named
full, = peers_named(["full-host"])
assert "comfy" not in sys.modules
for channels in (3, 4):
    work = Workload(tiny_dit(in_channels=channels), Protocol(samples=2, steps=6))
    pictures, share = full.run(work, {"cache": "none"})
    print(share, bool((psnr(pictures, work.full(6, "ddim"), clamp=False) >= 60).all()))
"""
    assert python(code).splitlines()[-2:] == ["1.0 True", "1.0 True"]
