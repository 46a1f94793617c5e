"""What a run keeps for each set of rows: which rows a call finds, when they are given up, and what is known of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy import TOY_BLOCK, ToyModel

from tokencache_core.engine.network_call import cached_blocks
from tokencache_core.engine.session import ELSEWHERE, Session, open_session
from tokencache_core.engine.store import MOST_CHANGE, CacheStore, Rows
from tokencache_core.engine.token_choice import ScorePlanner
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings

TAUS = [1.0, 0.8, 0.6, 0.4, 0.2]
GAINS = {"a": 1.0, "b": 10.0, "c": 100.0}  # of conditionings: what the block adds to their tokens, times tau


def session_of(model: ToyModel, i_steps: tuple[int, ...] = (0,), **settings: object) -> Session:
    return open_session(
        CacheSettings(**{"order": 0, "fitted": False, **settings}),
        ExplicitSchedule(i_steps),
        sigmas=TAUS,
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=model.streams,
    )


def evaluate(
    model: ToyModel, session: Session, tau: float, *calls: str, key: str = "rows", part: Tensor | None = None
) -> list[list[float]]:
    """One evaluation, with a call of the network for each of `calls`, which names a conditioning by each of its
    letters: what is added to the tokens of each.
    """
    blocks, added = [(block, TOY_BLOCK) for block in model.blocks], []
    with session.evaluation(tau, part):
        for names in calls:
            for block in model.blocks:
                block.gain = torch.tensor([GAINS[name] for name in names]).view(-1, 1, 1)
            with cached_blocks(
                session,
                blocks,
                key=key,
                images=1,
                nothing_between_blocks=True,
                conditionings=tuple(names),
                partial_latent=part is not None,
                latent=part,
            ):
                added.append([round(value, 4) for value in model(len(names), tau)[:, 0, 0].tolist()])
    return added


def kept(session: Session) -> list[str]:
    """The conditionings of all sets of rows that are kept, as in `evaluate`."""
    return ["".join(map(str, conditionings)) for _, conditionings in session.store.rows_by_key]


def test_what_is_kept_of_a_conditioning_goes_with_it_when_calls_are_split_and_joined():
    model = ToyModel((1.0,))
    session = session_of(model)
    assert evaluate(model, session, 1.0, "ab") == [[1.0, 10.0]]
    assert evaluate(model, session, 0.8, "a", "b") == [[1.0], [10.0]]
    assert evaluate(model, session, 0.6, "ba") == [[10.0, 1.0]]
    assert evaluate(model, session, 0.4, "ab") == [[1.0, 10.0]]
    assert [evaluation.misses for evaluation in session.log.evaluations] == [0, 0, 0, 0]


def test_rows_whose_conditionings_are_kept_elsewhere_are_given_up():
    model = ToyModel((1.0,))
    session = session_of(model)
    evaluate(model, session, 1.0, "ab", "c")
    with session.evaluation(0.8):
        session.rows(("rows", True), ("a",))
        assert kept(session) == ["ab", "c", "a"]  # "b" has nothing else yet
        session.rows(("rows", True), ("b",))
        assert kept(session) == ["c", "a", "b"]
        session.rows(("rows", True), ("b", "a"))
        assert kept(session) == ["c", "a", "b", "ba"]  # those used in this evaluation stay


def test_a_call_with_a_conditioning_that_is_not_known_finds_nothing():
    model = ToyModel((1.0,))
    session = session_of(model)
    evaluate(model, session, 1.0, "a", "b")
    assert evaluate(model, session, 0.5, "ac") == [[0.5, 50.0]]
    assert session.log.evaluations[-1].misses == 1 and kept(session) == ["a", "b", "ac"]
    assert evaluate(model, session, 0.4, "ab", key="other") == [[0.4, 4.0]]  # of another name


def test_rows_that_are_not_refreshed_at_the_same_times_are_not_joined():
    model = ToyModel((1.0,))
    session = session_of(model, order=1)
    evaluate(model, session, 1.0, "a")
    evaluate(model, session, 0.8, "a", "b")  # "b" is new, and runs whole
    assert evaluate(model, session, 0.6, "ab") == [[0.6, 6.0]]
    assert session.log.evaluations[-1].misses == 1


def test_rows_of_conditionings_that_no_longer_occur_are_given_up_on_i_steps():
    model = ToyModel((1.0,))
    session = session_of(model, (0, 2))
    evaluate(model, session, 1.0, "a", "b")
    evaluate(model, session, 0.8, "a")
    assert kept(session) == ["a", "b"]
    evaluate(model, session, 0.6, "a")
    assert kept(session) == ["a"]


def test_the_most_that_was_kept_at_one_time_is_told():
    model = ToyModel((1.0,))
    session = session_of(model, (0, 1))
    evaluate(model, session, 1.0, "a", "b")
    most = session.store.memory_bytes
    assert most == 2 * 4 * 2 * 4  # two sets of rows: 4 tokens of width 2, in float32
    evaluate(model, session, 0.8, "a")
    assert session.store.memory_bytes == most and session.close().memory_bytes == most


def test_after_it_is_freed_everything_is_computed_again():
    model = ToyModel((1.0,))
    session = session_of(model)
    evaluate(model, session, 1.0, "a")
    session.store.free()
    assert evaluate(model, session, 0.8, "a") == [[0.8]]
    assert evaluate(model, session, 0.6, "a") == [[0.8]]


def test_a_store_in_its_place_keeps_what_was_measured_and_nothing_else():
    model = ToyModel((1.0,))
    session = session_of(model)
    evaluate(model, session, 1.0, "a")
    before, told = session.store, []
    before.memory.tell = told.append
    after = before.emptied(CacheSettings(cache_ratio=0.5), ("x", "x"))
    assert not before.rows_by_key and not after.rows_by_key
    assert after.memory_bytes == before.memory_bytes > 0 and after.memory.tell == told.append
    assert after.streams == ("x", "x") and (after.i_steps, after.budget) == (before.i_steps, before.budget)


def test_the_tokens_of_so_many_rows_are_those_last_seen():
    model = ToyModel((1.0,))
    session = session_of(model)
    assert session.store.tokens_of(1) == 0
    evaluate(model, session, 1.0, "a", "ab")
    model.n_tokens = 6
    evaluate(model, session, 0.8, "a", key="larger")
    assert [session.store.tokens_of(rows) for rows in (1, 2, 3)] == [6, 4, 0]


@pytest.mark.parametrize(
    ("settings", "keeps"),
    [
        ({"cache_ratio": 1.0}, False),
        ({"cache_ratio": 0.0}, False),
        ({"cache_ratio": 0.5}, True),
        ({"cache_ratio": 0.5, "context": "computed"}, False),
    ],
)
def test_keys_are_kept_where_some_tokens_are_computed(settings: dict[str, object], keeps: bool):
    choice = CacheSettings(shares="uniform", **settings)
    store = CacheStore(choice, ("x", "x"), ScorePlanner(choice), i_steps=2)
    assert store.keeps_keys is keeps


def test_a_planner_reads_the_histories_of_a_few_blocks_of_all_rows_with_as_many_tokens():
    model = ToyModel((1.0,) * 9)
    session = session_of(model, cache_ratio=0.5, shares="uniform", score="random")
    for block in range(9):  # each a span of its own
        model.blocks[block].gain = 1.0
    evaluate(model, session, 1.0, "a", "b")
    model.n_tokens = 6
    evaluate(model, session, 0.8, "a", key="larger")
    rows, other, larger = session.store.rows_by_key.values()
    spans = len(rows.histories)
    read = session.store.histories(rows)
    assert len(read) == 2 * len(range(0, spans, max(1, spans // 4)))
    assert set(map(id, read)) <= {id(history) for each in (rows, other) for history in each.histories.values()}
    assert not set(map(id, read)) & {id(history) for history in larger.histories.values()}


def part_of(value: float, rows: int = 1, side: int = 2) -> Tensor:
    return torch.full((rows, 3, side, side), value)


def test_a_part_that_changes_far_more_than_the_whole_is_elsewhere():
    rows = Rows()
    rows.spans = (object(),)
    assert not rows.is_elsewhere(part_of(0.0), part_of(0.0, side=4))  # not seen before
    assert not rows.is_elsewhere(part_of(MOST_CHANGE), part_of(1.0, side=4))
    assert rows.is_elsewhere(part_of(2 * MOST_CHANGE + 0.1), part_of(2.0, side=4))
    assert not rows.is_elsewhere(part_of(2 * MOST_CHANGE), part_of(2.1, side=4))  # beside the last, not the first


def test_one_image_that_is_elsewhere_is_enough():
    rows = Rows()
    rows.spans = (object(),)
    rows.is_elsewhere(part_of(0.0, rows=2), part_of(0.0, side=4))
    assert rows.is_elsewhere(torch.stack([part_of(0.0)[0], part_of(MOST_CHANGE + 0.1)[0]]), part_of(1.0, side=4))


def test_a_part_of_another_size_is_elsewhere():
    for part, whole in ((part_of(0.0, side=3), part_of(0.0, side=4)), (part_of(0.0), part_of(0.0, side=5))):
        rows = Rows()
        rows.spans = (object(),)
        rows.is_elsewhere(part_of(0.0), part_of(0.0, side=4))
        assert rows.is_elsewhere(part, whole)


def test_where_nothing_is_kept_or_the_whole_is_not_known_nothing_is_elsewhere():
    for spans, first, then in (
        ((), part_of(0.0), part_of(0.0)),
        ((1,), None, part_of(0.0)),
        ((1,), part_of(0.0), None),
    ):
        rows = Rows()
        rows.spans = spans
        rows.is_elsewhere(part_of(0.0), first)
        assert not rows.is_elsewhere(part_of(9.0), then)


def test_of_a_part_that_is_elsewhere_nothing_is_used():
    model = ToyModel((1.0,))
    session = session_of(model)
    evaluate(model, session, 1.0, "a", part=part_of(0.0))
    assert evaluate(model, session, 0.8, "a", part=part_of(0.1)) == [[1.0]]
    session.last_x = part_of(0.2)  # the whole has hardly changed
    with session.evaluation(0.6):
        assert session.rows(("rows", True), ("a",), part_of(0.5)).spans == ()
    assert ELSEWHERE in session.log.notes
