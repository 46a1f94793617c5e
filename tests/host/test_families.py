"""Every family in the real host: what docs/families.md says of it is written by this test (`pytest
tests/host/test_families.py --write-matrix`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from family_matrix import MATRIX, matrix_page, proven
from family_proofs import permutation_error, subset_error
from tiny_families import TINY
from tiny_families.tiny_model import NotInThisHost, TinyModel
from tiny_outputs import TINY_OUTPUTS
from tokencache_pack.nodes.families import family_of
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.nodes.host.network_call import SESSION
from tokencache_pack.tokencache_core.blocks.spec import BlockSpec
from tokencache_pack.tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings

EVERY_THIRD = UniformSchedule(interval=3, warmup=2)


def made(make: Callable[[], TinyModel]) -> TinyModel:
    try:
        return make()
    except NotInThisHost as model:
        pytest.skip(f"{model} is not in this ComfyUI")


@pytest.fixture(scope="module", params=TINY)
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return made(TINY[request.param])


@pytest.fixture(scope="module", params=TINY_OUTPUTS)
def tiny_output(request: pytest.FixtureRequest) -> TinyModel:
    """Of a network of which only the output is forecast."""
    return made(TINY_OUTPUTS[request.param])


def cached(tiny: TinyModel, **settings):
    return apply_tokencache(tiny.model, CacheSettings(**settings), EVERY_THIRD)


def test_a_permuting_the_tokens_permutes_the_output(tiny: TinyModel):
    with proven(tiny, "permutation") as proof:
        proof.error = permutation_error(tiny)
        assert proof.error < 1e-5


def test_b_recomputing_some_tokens_equals_the_full_pass(tiny: TinyModel):
    with proven(tiny, "subset") as proof:
        proof.error = subset_error(tiny)
        assert proof.error < 1e-5


def test_b_holds_where_keys_and_values_are_held(tiny: TinyModel):
    assert subset_error(tiny, context="stale") < 1e-5


def test_b_fails_without_the_others_keys_and_values(tiny: TinyModel):
    assert subset_error(tiny, context="computed") > 1e-3


def without_frames(spec: BlockSpec) -> BlockSpec:
    return replace(spec, per_token={name: where for name, where in spec.per_token.items() if not where.frames})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("Flux 1", lambda spec: replace(spec, per_token={})),  # positions uncut
        ("Wan 2.2 TI2V", without_frames),  # modulation by frame uncut: nothing raises, the pictures are wrong
        ("HunyuanVideo I2V", lambda spec: replace(spec, bounds={})),  # ranges of tokens where they were
    ],
)
def test_a_wrong_spec_is_caught(name: str, wrong: Callable[[BlockSpec], BlockSpec]):
    assert not caught_error(name, wrong) < 1e-3


def caught_error(name: str, change: Callable[[BlockSpec], BlockSpec]) -> float:
    """Of the subset proof with a wrong spec; NaN where it does not even run."""
    try:
        return subset_error(TINY[name](), change=change)
    except (RuntimeError, ValueError):
        return float("nan")


@pytest.mark.parametrize("split", [False, True])
def test_c_ratio_zero_is_bit_identical(tiny: TinyModel, split: bool, monkeypatch: pytest.MonkeyPatch):
    if split:  # as on a card short of memory: the host evaluates the conditionings one by one
        monkeypatch.setattr(tiny.model.model, "memory_required", lambda *args, **kwargs: 1e18)
    with proven(tiny, "ratio 0, split" if split else "ratio 0, batched"):
        model, handle = cached(tiny, cache_ratio=0.0)
        assert torch.equal(tiny.sample(model, batch=2), tiny.sample(batch=2))
        assert [step.kind for step in handle.latest().steps] == list("IIPPIP")
        assert handle.latest().compute == 1.0 and not handle.latest().notes


def test_d_ratio_nine_tenths_computes_a_tenth_on_p_steps(tiny: TinyModel):
    with proven(tiny, "ratio 0.9") as proof:
        for batch, shares in ((1, "early"), (2, "uniform")):
            model, handle = cached(tiny, cache_ratio=0.9, shares=shares)
            assert tiny.sample(model, batch=batch).isfinite().all()
            report = handle.latest()
            assert not any(step.misses for step in report.steps) and not report.notes
            p_steps = [step for step in report.steps if step.kind == "P"]
            image_tokens = report.token_counts.shape[1]
            for step in p_steps:
                computed = step.token_counts.sum(dim=1) / (len(step.block_tokens) * image_tokens)
                assert torch.allclose(computed, torch.tensor(0.1), atol=max(0.01, 0.5 / image_tokens))
        proof.error = float(computed.mean())


def test_e_nothing_is_left_afterwards(tiny: TinyModel):
    with proven(tiny, "nothing left"):
        plain = tiny.sample()
        model, handle = cached(tiny, cache_ratio=0.9)
        assert torch.equal(tiny.sample(model), tiny.sample(model)) and len(handle.reports) == 2
        assert torch.equal(tiny.sample(), plain)  # bypassed
        assert not any("forward" in module.__dict__ for module in tiny.model.model.diffusion_model.modules())
        assert SESSION not in model.model_options["transformer_options"]
        assert family_of(tiny.model.model.diffusion_model) is not None


def test_f_an_output_at_ratio_zero_is_bit_identical(tiny_output: TinyModel):
    with proven(tiny_output, "ratio 0"):
        model, handle = cached(tiny_output, cache_ratio=0.0)
        assert torch.equal(tiny_output.sample(model, steps=4), tiny_output.sample(steps=4))
        assert handle.latest().compute == 1.0


def test_g_an_output_is_forecast_on_p_steps(tiny_output: TinyModel):
    with proven(tiny_output, "forecast"):
        model, handle = apply_tokencache(tiny_output.model, CacheSettings(), AutomaticSchedule())
        calls = []
        network = tiny_output.model.model.diffusion_model
        watch = network.register_forward_pre_hook(lambda *_: calls.append(1))
        samples = tiny_output.sample(model, steps=20)
        watch.remove()
        report = handle.latest()
        i_steps = sum(step.kind == "I" for step in report.steps)
        assert samples.isfinite().all() and not any(step.misses for step in report.steps)
        assert len(report.steps) == 20 and report.compute == i_steps / 20 <= 0.6
        assert len(calls) in (i_steps, 2 * i_steps)  # the conditionings in one call, or in one call each
        assert "on P-steps its whole output is forecast" in report.text()


def test_h_nothing_is_left_of_an_output(tiny_output: TinyModel):
    with proven(tiny_output, "nothing left"):
        model, handle = cached(tiny_output)
        assert torch.equal(tiny_output.sample(model), tiny_output.sample(model)) and len(handle.reports) == 2
        assert not any("forward" in module.__dict__ for module in tiny_output.model.model.diffusion_model.modules())
        assert SESSION not in model.model_options["transformer_options"]


def test_the_page_says_what_was_proven(request: pytest.FixtureRequest):
    """Comes last. With --write-matrix it writes the page."""
    if set(MATRIX) != {*TINY, *TINY_OUTPUTS}:
        pytest.skip("not all families were tested")
    page = Path(request.config.rootpath) / "docs" / "families.md"
    if request.config.getoption("--write-matrix"):
        page.write_text(matrix_page())
    assert page.read_text() == matrix_page(), "run `pytest tests/host/test_families.py --write-matrix`"
