"""What a run will keep, told beforehand and worked out by hand; the forms that a budget leads to; what bfloat16 costs a
forecast.
"""

import pytest
import torch
from toy import TOY_BLOCK, ToyModel

from tokencache_core.blocks.spec import WHOLE, BlockSpec
from tokencache_core.blocks.token_index import TokenIndex
from tokencache_core.engine.attention_context import AttentionContext
from tokencache_core.engine.forecast import SpanHistory, TokenHistory
from tokencache_core.engine.memory_budget import FORMS, CacheMemory, Kept, MemoryBudget, RowsShape, kept_by
from tokencache_core.engine.network_call import cached_blocks
from tokencache_core.engine.session import open_session
from tokencache_core.engine.span_layout import SpanLayout
from tokencache_core.engine.storage import Form, Storage
from tokencache_core.schedules.schedule import ErrorBoundSchedule, ExplicitSchedule
from tokencache_core.settings import CacheSettings

TAUS = [1.0, 0.8, 0.6, 0.4, 0.2]
DOUBLE = BlockSpec(tokens="img", output=0, text="txt", text_output=1)
SINGLE = BlockSpec(tokens="x", text_length=lambda arguments: 3)
PLAIN, HALF, AWAY, JOINED, SMALLEST = FORMS
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def shape_of(*specs: BlockSpec) -> RowsShape:
    """2 rows of 5 image and 3 text tokens, 10 wide, keys in two bytes."""
    return RowsShape(rows=2, image=5, text=3, width=10, number_bytes=2, specs=specs, nothing_between_blocks=True)


@pytest.mark.parametrize(
    ("spec", "unit", "form", "kept"),
    [
        # blocks that reuse everything: (order + 1) updates of image tokens and text, 4 bytes a number
        (TOY_BLOCK, SpanLayout("reuse", 0, 0, 0), PLAIN, Kept(3 * 2 * 5 * 10 * 4, 0, 2 * 2 * 5 * 10 * 4)),
        (DOUBLE, SpanLayout("reuse", 0, 0, 0), PLAIN, Kept(3 * 2 * 8 * 10 * 4, 0, 2 * 2 * 8 * 10 * 4)),
        (SINGLE, SpanLayout("reuse", 0, 0, 0), HALF, Kept(3 * 2 * 8 * 10 * 2, 0, 2 * 2 * 8 * 10 * 2)),
        # blocks that compute some: one update more, keys and values of all
        (TOY_BLOCK, SpanLayout("tokens", 0, 0, 1), PLAIN, Kept(4 * 400, 2 * 200, 2 * 400 + 3 * 400)),
        (DOUBLE, SpanLayout("tokens", 0, 0, 1), PLAIN, Kept(4 * 400, 2 * 320, 2 * 400 + 3 * 640)),
        (SINGLE, SpanLayout("tokens", 0, 0, 1), HALF, Kept(4 * 320, 2 * 320, 2 * 320 + 3 * 640)),
        (TOY_BLOCK, SpanLayout("whole", 0, 0, 5), PLAIN, Kept()),
        (WHOLE, SpanLayout("reuse", 0, 0, 0), PLAIN, Kept()),
    ],
)
def test_what_a_block_keeps(spec, unit, form, kept):
    assert kept_by(shape_of(spec), (unit,), form, refreshes=3, key_refreshes=1) == kept


def test_a_run_of_blocks_keeps_one_history_and_the_keys_and_values_of_each():
    run = SpanLayout("tokens", 0, 2, 1)
    shape = shape_of(*[TOY_BLOCK] * 3)
    assert kept_by(shape, (run,), PLAIN, refreshes=2, key_refreshes=1) == Kept(3 * 400, 3 * 400, 2 * 400 + 3 * 400)
    assert kept_by(shape, (run,), PLAIN, refreshes=2, key_refreshes=0) == Kept(3 * 400, 0, 2 * 400)


def test_forecast_keys_and_values_are_kept_twice_and_a_forecast_works_beside_them():
    kept = kept_by(shape_of(TOY_BLOCK), (SpanLayout("tokens", 0, 0, 1),), PLAIN, refreshes=2, key_refreshes=2)
    assert kept == Kept(3 * 400, 2 * 400, 2 * 400 + (2 + 2 + 1 + 1) * 400)


def run(settings: dict, budget: MemoryBudget = MemoryBudget(), i_steps=(0, 1, 2), rows=("all",), told=None, n_blocks=2):
    """The report and the outputs of the toy's run. told: a list of what is said, and of what is stored then. rows: sets
    of two, one call each.
    """
    model = ToyModel((1.0,) * n_blocks)
    session = open_session(
        CacheSettings(**{"context": "computed", "reach": 1.0, **settings}),
        ExplicitSchedule(i_steps),
        sigmas=TAUS,
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=model.streams,
        budget=budget,
    )
    session.store.memory.tell = lambda words: told is not None and told.append((words, session.store.memory_bytes))
    outputs = []
    blocks = [(block, TOY_BLOCK) for block in model.blocks]
    for tau in TAUS:
        with session.evaluation(tau):
            for key in rows:
                with cached_blocks(session, blocks, key=key, images=1, nothing_between_blocks=True):
                    outputs.append(model(2, tau))
    return session.close(), torch.stack(outputs)


@pytest.mark.parametrize(
    ("settings", "n_bytes"),
    [
        ({"order": 2}, 3 * 64),
        ({"order": 0, "fitted": False}, 64),
        ({"order": 1, "last_blocks": 1, "fitted": False}, 2 * 64),  # an update: 2 rows, 4 tokens, 2 wide, 4 bytes
        ({"order": 1, "cache_ratio": 0.75, "shares": "uniform", "fitted": False}, 3 * 64),
        ({"order": 1}, 3 * 64),  # and one for the fitted term
        ({"order": 2, "fitted": False}, 3 * 64),
        ({"cache_ratio": 0.0}, 0),
    ],
)
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
    session = open_session(
        CacheSettings(),
        ErrorBoundSchedule(0.1),
        sigmas=TAUS,
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=model.streams,
    )
    model.run(session, 1.0)
    assert session.store.memory.expected.updates == 3 * 32  # order + 1 of them, and one for the fitted term


# the toy has no attention: its keys and values are only told
SOME = {"order": 2, "cache_ratio": 0.75, "shares": "uniform", "context": "stale"}


# Eight blocks: four updates of 64 bytes, keys and values of 128 bytes a block. In main memory there work two updates of
# 32 and keys and values of
# three blocks; with nothing computed there are three updates of 32, of which two work.
@pytest.mark.parametrize(
    ("budget", "form"),
    [
        (MemoryBudget(), PLAIN),
        (MemoryBudget(4 * 64 + 1024), PLAIN),
        (MemoryBudget(4 * 64 + 1023), HALF),
        (MemoryBudget(4 * 32 + 1024), HALF),
        (MemoryBudget(4 * 32 + 1023), AWAY),
        (MemoryBudget(448), AWAY),
        (MemoryBudget(447), JOINED),
        (MemoryBudget(448, main=4 * 32 + 1023), JOINED),
        (MemoryBudget(96), JOINED),
        (MemoryBudget(95), SMALLEST),
        (MemoryBudget(1), SMALLEST),
        (MemoryBudget(1, main=0), JOINED),
    ],
)
def test_a_budget_takes_the_mildest_form_that_fits(budget, form):
    told = []
    report, _ = run(SOME, budget, told=told, n_blocks=8)
    assert report.storage == str(form)
    assert told[0][1] == 0 and str(form) in told[0][0]


def test_a_budget_below_all_is_reported_and_the_run_goes_on():
    report, outputs = run(SOME, MemoryBudget(10))
    assert "the memory budget of 0.0 MiB was too small: the cache took at least 0.0 MiB" in report.text()
    assert outputs[-1, 0, 0, 0].item() == pytest.approx(0.4, abs=0.02)
    assert report.steps[-1].compute == 0
    assert not run(SOME, MemoryBudget(448), n_blocks=8)[0].notes


def test_a_negative_budget_is_refused():
    with pytest.raises(ValueError, match="cannot be negative"):
        MemoryBudget(-1)


def test_half_the_bytes_and_nearly_the_same_forecast():
    plain, exact = run({"order": 2})
    half, near = run({"order": 2}, MemoryBudget(191))
    assert half.memory_bytes == plain.memory_bytes / 2
    assert 0 < (near - exact).abs().max() < 0.01  # of 0.4 and more


def test_rows_that_come_apart_share_the_budget():
    told = []
    report, _ = run({"order": 2}, MemoryBudget(300), rows=("cond", "uncond"), told=told)
    assert report.storage == str(HALF) and report.memory_bytes == report.expected_bytes == 2 * 3 * 32
    assert [str(form) in words for form, (words, _) in zip((PLAIN, HALF), told, strict=True)] == [True, True]
    assert not any(step.misses for step in report.steps)


def test_rows_that_had_computed_tokens_start_anew_where_others_leave_no_room():
    report, outputs = run(SOME, MemoryBudget(512, main=0), i_steps=(0,), rows=("cond", "uncond"))
    assert report.storage == str(JOINED)
    assert [step.misses for step in report.steps] == [0, 1, 0, 0, 0]  # the first rows had been kept otherwise
    assert outputs[2, 0, 0, 0].item() == pytest.approx(2 * TAUS[1]) and outputs[3, 0, 0, 0].item() == pytest.approx(
        2 * TAUS[0]
    )


def test_keys_larger_than_the_tokens_width_tells_count_from_the_second_evaluation_on():
    shape, units = shape_of(TOY_BLOCK), (SpanLayout("tokens", 0, 0, 1),)
    memory = CacheMemory(MemoryBudget(2000, main=0), refreshes=3, key_refreshes=1)
    assert memory.choose(lambda form: [(shape, units)]) == PLAIN and memory.expected.total == 4 * 400 + 400
    memory.rescale(800)  # of one block: twice as many as expected
    assert memory.choose(lambda form: [(shape, units)]) == HALF and memory.expected.total == 4 * 200 + 800


def test_the_first_evaluation_has_the_keys_and_values_of_one_i_step_of_two():
    shape, units = shape_of(TOY_BLOCK), (SpanLayout("tokens", 0, 0, 1),)
    memory = CacheMemory(MemoryBudget(10000), refreshes=3, key_refreshes=2)
    memory.choose(lambda form: [(shape, units)])
    assert memory.expected.keys_values == 2 * 400
    memory.rescale(400)  # as expected
    memory.choose(lambda form: [(shape, units)])
    assert memory.expected.keys_values == 2 * 400
    memory.rescale(800)
    memory.choose(lambda form: [(shape, units)])
    assert memory.expected.keys_values == 2 * 800


def forecast_error(history: SpanHistory | TokenHistory) -> float:
    """Of a parabola, one gap of its refreshes beyond the last of them; relative to the update."""
    random = torch.Generator().manual_seed(0)
    base, slope, bend = torch.randn(3, 2, 50, 16, generator=random)
    updates = {tau: base + tau * slope + tau**2 * bend for tau in (0.9, 0.8, 0.7, 0.6)}
    for tau in (0.9, 0.8, 0.7):
        history.refresh(updates[tau].clone(), tau)
    error = history.add_forecast(torch.zeros(2, 50, 16), 0.6) - updates[0.6]
    return float(error.square().mean().sqrt() / updates[0.6].square().mean().sqrt())


@pytest.mark.parametrize("make", [SpanHistory, lambda order, storage: TokenHistory(order, storage=storage)])
def test_a_forecast_through_halved_updates_errs_little(make):
    storage = Storage()
    assert forecast_error(make(2, storage)) < 1e-5
    storage.form = HALF
    history = make(2, storage)
    assert 1e-4 < forecast_error(history) < 0.01
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
    history, context = TokenHistory(0, storage=storage), AttentionContext(storage, 2)
    history.refresh(torch.ones(1, 2, 1), 0.9)
    history.refresh_some(torch.tensor([[3.0]]), 0.8, torch.tensor([1]))
    for tau in (0.9, 0.8):
        context.store(0, torch.ones(1, 2, 1), torch.ones(1, 2, 1), None, tau)
    storage.form = AWAY
    history.to_current_form()
    context.to_current_form()
    assert history.memory_bytes == 8 and context.memory_bytes == 32  # keys and values keep their own type
    assert history.add_forecast(torch.zeros(1, 2, 1), 0.5).flatten().tolist() == [1.0, 3.0]


@GPU
@pytest.mark.parametrize("refreshes", [1, 2])
@pytest.mark.parametrize("form", [Form(half=True, off_device=True), Form(off_device=True)])
def test_on_a_gpu_what_is_kept_lies_in_pinned_main_memory(form, refreshes):
    """Many blocks' worth of keys, values and updates, refreshed and used again and again, equal those that never left
    the GPU.
    """
    results = []
    for chosen in (Form(half=form.half), form):
        storage, random = Storage(), torch.Generator("cuda").manual_seed(0)
        storage.form = chosen
        contexts = [AttentionContext(storage, refreshes) for _ in range(8)]
        history = TokenHistory(1, storage=storage)
        found = []
        for tau in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
            if tau in (0.9, 0.8, 0.5):
                for context in contexts:
                    context.store(0, *torch.randn(2, 2, 2000, 64, device="cuda", generator=random), None, tau)
                history.refresh(torch.randn(2, 2000, 64, device="cuda", generator=random), tau)
                continue
            index = TokenIndex(torch.randperm(2000, device="cuda", generator=random)[:100].expand(2, -1), 2000)
            for context, following in zip(contexts, [*contexts[1:], None]):
                if following is not None:
                    following.prefetch()
                keys, values = context.entries[0].with_computed(
                    *torch.randn(2, 2, 100, 64, device="cuda", generator=random), index, 1, tau
                )
                found.append((keys @ values.mT).square().mean())
            history.refresh_some(torch.randn(200, 64, device="cuda", generator=random), tau, index.flat)
            found.append(history.add_forecast(torch.zeros(2, 2000, 64, device="cuda"), tau).square().mean())
        results.append(torch.stack(found).cpu())
        if chosen is form:
            kept = [tensor for context in contexts for kept in context.entries[0].kept for tensor in kept]
            assert all(tensor.is_pinned() for tensor in (*kept, *history.whole.updates, history.deviation))
        storage.release()
    assert torch.equal(*results)
