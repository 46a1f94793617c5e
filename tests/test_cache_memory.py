"""What a run will keep, told beforehand and worked out by hand; the forms that a budget leads to; what bfloat16 costs a forecast."""

import pytest
import torch
from toy import TOY_BLOCK, ToyModel

from tokencache_core.allocation import Unit
from tokencache_core.block_spec import WHOLE, BlockSpec
from tokencache_core.cache_memory import FORMS, Kept, MemoryBudget, RowsShape, kept_by
from tokencache_core.context import AttentionContext
from tokencache_core.history import RunHistory, TokenHistory
from tokencache_core.schedule import ErrorBoundSchedule, ExplicitSchedule
from tokencache_core.session import Session
from tokencache_core.settings import CacheSettings
from tokencache_core.storage import Form, Storage
from tokencache_core.token_index import TokenIndex

TAUS = [1.0, 0.8, 0.6, 0.4, 0.2]
DOUBLE = BlockSpec(tokens="img", output=0, text="txt", text_output=1)
SINGLE = BlockSpec(tokens="x", text_length=lambda arguments: 3)
PLAIN, HALF, AWAY, JOINED, SMALLEST = FORMS
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def shape_of(*specs: BlockSpec) -> RowsShape:
    """2 rows of 5 image and 3 text tokens, 10 wide, keys in two bytes."""
    return RowsShape(rows=2, image=5, text=3, width=10, number_bytes=2, specs=specs, together=True)


@pytest.mark.parametrize(("spec", "unit", "form", "kept"), [
    # blocks that reuse everything: (order + 1) updates of image tokens and text, 4 bytes a number
    (TOY_BLOCK, Unit("reuse", 0, 0, 0), PLAIN, Kept(3 * 2 * 5 * 10 * 4, 0, 2 * 2 * 5 * 10 * 4)),
    (DOUBLE, Unit("reuse", 0, 0, 0), PLAIN, Kept(3 * 2 * 8 * 10 * 4, 0, 2 * 2 * 8 * 10 * 4)),
    (SINGLE, Unit("reuse", 0, 0, 0), HALF, Kept(3 * 2 * 8 * 10 * 2, 0, 2 * 2 * 8 * 10 * 2)),
    # blocks that compute some: one update more, keys and values of all
    (TOY_BLOCK, Unit("tokens", 0, 0, 1), PLAIN, Kept(4 * 400, 2 * 200, 2 * 400 + 3 * 400)),
    (DOUBLE, Unit("tokens", 0, 0, 1), PLAIN, Kept(4 * 400, 2 * 320, 2 * 400 + 3 * 640)),
    (SINGLE, Unit("tokens", 0, 0, 1), HALF, Kept(4 * 320, 2 * 320, 2 * 320 + 3 * 640)),
    (TOY_BLOCK, Unit("whole", 0, 0, 5), PLAIN, Kept()),
    (WHOLE, Unit("reuse", 0, 0, 0), PLAIN, Kept()),
])
def test_what_a_block_keeps(spec, unit, form, kept):
    assert kept_by(shape_of(spec), (unit,), form, refreshes=3, stale=True) == kept


def test_a_run_of_blocks_keeps_one_history_and_the_keys_and_values_of_each():
    run = Unit("tokens", 0, 2, 1)
    shape = shape_of(*[TOY_BLOCK] * 3)
    assert kept_by(shape, (run,) * 3, PLAIN, refreshes=2, stale=True) == Kept(3 * 400, 3 * 400, 2 * 400 + 3 * 400)
    assert kept_by(shape, (run,) * 3, PLAIN, refreshes=2, stale=False) == Kept(3 * 400, 0, 2 * 400)


def run(settings: dict, budget: MemoryBudget = MemoryBudget(), i_steps=(0, 1, 2), rows=("all",), told=None, gains=(1.0, 2.0)):
    """The report of the toy's run; told: a list of what is said before anything is stored. rows: sets of two, one call each."""
    model = ToyModel(gains)
    session = Session(
        CacheSettings(**{"context": "computed", **settings}), ExplicitSchedule(i_steps), sigmas=TAUS, tau=lambda sigma: sigma,
        streams=model.streams, budget=budget,
    )
    session.memory.tell = lambda words: told is not None and told.append((words, session.memory_bytes))
    outputs = []
    for tau in TAUS:
        for key in rows:
            outputs.append(model.run(session, tau, rows=2, key=key))
    return session.close(), outputs


@pytest.mark.parametrize(("settings", "n_bytes"), [
    ({"order": 2}, 3 * 64), ({"order": 0}, 64), ({"order": 1, "last_blocks": 1}, 2 * 64),      # an update: 2 rows, 4 tokens, 2 wide, 4 bytes
    ({"order": 1, "cache_ratio": 0.75, "shares": "uniform"}, 3 * 64), ({"cache_ratio": 0.0}, 0),
])
def test_the_toys_run_keeps_what_was_told(settings, n_bytes):
    told = []
    report, _ = run(settings, told=told)
    assert report.memory_bytes == report.expected_bytes == n_bytes
    assert [stored for _, stored in told] == ([0] if n_bytes else [])
    assert "updates in float32" in report.text() and not report.notes


def test_a_run_of_fewer_i_steps_than_a_forecast_takes_keeps_fewer_updates():
    report, _ = run({"order": 2}, i_steps=(0, 1))
    assert report.memory_bytes == report.expected_bytes == 2 * 64


def test_a_run_whose_i_steps_are_not_known_beforehand_may_keep_all():
    model = ToyModel((1.0,))
    session = Session(CacheSettings(), ErrorBoundSchedule(0.1), sigmas=TAUS, tau=lambda sigma: sigma, streams=model.streams)
    model.run(session, 1.0)
    assert session.memory.expected.updates == 3 * 32


SOME = {"order": 2, "cache_ratio": 0.75, "shares": "uniform", "context": "stale"}   # the toy has no attention: its keys and values are only told
OF_SOME = 4 * 64, 2 * 2 * 64        # updates; keys and values


@pytest.mark.parametrize(("budget", "form"), [
    (MemoryBudget(), PLAIN), (MemoryBudget(512), PLAIN), (MemoryBudget(511), HALF), (MemoryBudget(384), HALF), (MemoryBudget(383), AWAY),
    (MemoryBudget(511, main=0), HALF), (MemoryBudget(383, main=383), JOINED), (MemoryBudget(96, main=383), JOINED),
    (MemoryBudget(95, main=96), SMALLEST), (MemoryBudget(64), SMALLEST), (MemoryBudget(1), SMALLEST), (MemoryBudget(1, main=0), JOINED),
])
def test_a_budget_takes_the_mildest_form_that_fits(budget, form):
    told = []
    report, _ = run(SOME, budget, told=told)
    assert report.storage == str(form)
    assert sum(OF_SOME) == 512 and told[0][1] == 0 and str(form) in told[0][0]


def test_a_budget_below_all_is_reported_and_the_run_goes_on():
    report, outputs = run(SOME, MemoryBudget(10))
    assert any("memory budget of 0.0 MiB was too small" in note for note in report.notes)
    assert outputs[-1][0, 0, 0].item() == pytest.approx(0.6, abs=0.02)
    assert report.steps[-1].compute == 0
    assert not run(SOME, MemoryBudget(300, main=10_000))[0].notes


def test_a_negative_budget_is_refused():
    with pytest.raises(ValueError, match="cannot be negative"):
        MemoryBudget(-1)


def test_half_the_bytes_and_nearly_the_same_forecast():
    plain, exact = run({"order": 2})
    half, near = run({"order": 2}, MemoryBudget(191))
    assert half.memory_bytes == plain.memory_bytes / 2
    assert torch.stack(near) - torch.stack(exact) == pytest.approx(0, abs=0.02)     # of 3 tau, in bfloat16's 8 bits
    assert not torch.equal(torch.stack(near), torch.stack(exact))


def test_rows_that_come_apart_share_the_budget():
    told = []
    report, _ = run({"order": 2}, MemoryBudget(300), rows=("cond", "uncond"), told=told)
    assert report.storage == str(HALF) and report.memory_bytes == report.expected_bytes == 2 * 3 * 32
    assert [str(form) in words for form, (words, _) in zip((PLAIN, HALF), told)] == [True, True]
    assert not any(step.misses for step in report.steps)


def test_rows_that_had_computed_tokens_start_anew_where_others_leave_no_room():
    report, outputs = run(SOME, MemoryBudget(512, main=0), i_steps=(0,), rows=("cond", "uncond"))
    assert report.storage == str(JOINED)
    assert [step.misses for step in report.steps] == [0, 1, 0, 0, 0]     # the first rows had been kept otherwise
    assert outputs[2][0, 0, 0].item() == pytest.approx(3 * TAUS[1])


def forecast_error(storage: Storage, history: RunHistory) -> float:
    """Relative to the update."""
    random = torch.Generator().manual_seed(0)
    base, slope, bend = torch.randn(3, 2, 50, 16, generator=random)
    updates = {tau: base + tau * slope + tau**2 * bend for tau in (0.9, 0.8, 0.7, 0.5)}
    for tau in (0.9, 0.8, 0.7):
        history.refresh(updates[tau].clone(), tau)
    error = history.add_forecast(torch.zeros(2, 50, 16), 0.5) - updates[0.5]
    return float(error.square().mean().sqrt() / updates[0.5].square().mean().sqrt())


@pytest.mark.parametrize("make", [RunHistory, lambda order, storage: TokenHistory(order, storage=storage)])
def test_a_forecast_through_halved_updates_errs_little(make):
    storage = Storage()
    assert forecast_error(storage, make(2, storage)) < 1e-5
    storage.form = HALF
    history = make(2, storage)
    assert 1e-4 < forecast_error(storage, history) < 0.02
    assert history.memory_bytes == 3 * 2 * 50 * 16 * 2


def test_a_token_computed_in_between_keeps_its_deviation_in_half_the_bytes():
    storage = Storage()
    storage.form = AWAY
    history = TokenHistory(0, storage=storage)
    history.refresh(torch.tensor([[[1.0], [2.0]]]), 0.9)
    history.refresh_some(torch.tensor([[7.0]]), 0.8, torch.tensor([1]))
    assert history.add_forecast(torch.ones(1, 2, 1), 0.5).flatten().tolist() == [2.0, 8.0]
    assert history.memory_bytes == 2 * 2 * 2


def test_what_is_kept_takes_on_another_form_in_mid_run():
    storage = Storage()
    history, context = TokenHistory(0, storage=storage), AttentionContext(storage)
    history.refresh(torch.ones(1, 2, 1), 0.9)
    history.refresh_some(torch.tensor([[3.0]]), 0.8, torch.tensor([1]))
    context.store(0, torch.ones(1, 2, 1), torch.ones(1, 2, 1), None)
    storage.form = AWAY
    history.keep_again()
    context.keep_again()
    assert history.memory_bytes == 8 and context.memory_bytes == 16     # keys and values keep their own type
    assert history.add_forecast(torch.zeros(1, 2, 1), 0.5).flatten().tolist() == [1.0, 3.0]


@GPU
@pytest.mark.parametrize("form", [Form(half=True, off_device=True), Form(off_device=True)])
def test_on_a_gpu_what_is_kept_lies_in_pinned_main_memory(form):
    """Many blocks' worth of keys, values and updates, refreshed and used again and again, equal those that never left the GPU."""
    results = []
    for chosen in (Form(half=form.half), form):
        storage, random = Storage(), torch.Generator("cuda").manual_seed(0)
        storage.form = chosen
        contexts = [AttentionContext(storage) for _ in range(8)]
        history = TokenHistory(1, storage=storage)
        found = []
        for tau in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
            if tau in (0.9, 0.8, 0.5):
                for context in contexts:
                    context.store(0, *torch.randn(2, 2, 2000, 64, device="cuda", generator=random), None)
                history.refresh(torch.randn(2, 2000, 64, device="cuda", generator=random), tau)
                continue
            index = TokenIndex(torch.randperm(2000, device="cuda", generator=random)[:100].expand(2, -1), 2000)
            for context, following in zip(contexts, [*contexts[1:], None]):
                if following is not None:
                    following.send_for()
                found += context.extend(0, *torch.randn(2, 2, 100, 64, device="cuda", generator=random), index, 1)
                found = [found[0] * 0.5 + found[-2] @ found[-1].mT.mean(dim=1, keepdim=True).mT]
            history.refresh_some(torch.randn(200, 64, device="cuda", generator=random), tau, index.flat)
            found = [found[0] + history.add_forecast(torch.zeros(2, 2000, 64, device="cuda"), tau)[..., :1]]
        results.append(found[0].cpu())
        if chosen is form:
            kept = [tensor for context in contexts for entry in context.entries.values() for tensor in entry]
            assert all(tensor.is_pinned() for tensor in (*kept, *history.whole.updates, history.deviation))
        storage.release()
    assert torch.equal(*results)
