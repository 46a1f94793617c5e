"""How many tokens each block computes on a P-step."""

import pytest

from tokencache_core.engine.allocation import tokens_per_block
from tokencache_core.engine.span_layout import SpanLayout, span_layouts
from tokencache_core.settings import CacheSettings


def counts(n_blocks=6, n_tokens=100, **settings):
    return tokens_per_block(CacheSettings(**settings), n_blocks, n_tokens)


def test_early_shares_fill_the_first_blocks():
    # r = 0.7 over 4 cacheable blocks of 100 tokens leaves 120 to compute
    assert counts(cache_ratio=0.7, last_blocks=2, shares="early") == (100, 20, 0, 0, 100, 100)


def test_uniform_shares_give_each_block_as_many():
    assert counts(cache_ratio=0.7, last_blocks=2, shares="uniform") == (30, 30, 30, 30, 100, 100)


def test_the_ends_of_the_ratio():
    assert counts(cache_ratio=0.0) == (100,) * 6
    assert counts(cache_ratio=1.0) == (0,) * 6
    assert counts(cache_ratio=1.0, last_blocks=6) == (100,) * 6


def test_more_last_blocks_than_blocks_is_refused():
    with pytest.raises(ValueError, match="only 6 blocks"):
        counts(last_blocks=7)


def test_neighbours_that_reuse_everything_are_one_unit_on_one_stream():
    units = span_layouts((0, 0, 0, 20, 0, 100), 100, ("img", "img", "joint", "joint", "joint", "joint"), may_join=True)
    assert units == (
        SpanLayout("reuse", 0, 1, 0),
        SpanLayout("reuse", 2, 2, 0),
        SpanLayout("tokens", 3, 3, 20),
        SpanLayout("reuse", 4, 4, 0),
        SpanLayout("whole", 5, 5, 100),
    )


def test_neighbours_that_compute_the_same_tokens_are_one_unit():
    counts, streams = (20, 20, 20, 30, 100, 100), ("img", "img", "joint", "joint", "joint", "joint")
    kinds = [(unit.kind, unit.first, unit.last) for unit in span_layouts(counts, 100, streams, may_join=True)]
    assert kinds == [("tokens", 0, 1), ("tokens", 2, 2), ("tokens", 3, 3), ("whole", 4, 4), ("whole", 5, 5)]
    apart = span_layouts(counts, 100, streams, may_join=False)
    assert [(unit.first, unit.last) for unit in apart] == [(block, block) for block in range(6)]


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"cache_ratio": 1.1}, "between 0"),
        ({"cache_ratio": -0.1}, "between 0"),
        ({"order": 3}, "order must be"),
        ({"last_blocks": -1}, "cannot be negative"),
        ({"context": "none"}, "forecast, stale, computed"),
        ({"score": "best"}, "staleness, random"),
        ({"shares": "late"}, "early, uniform"),
    ],
)
def test_bad_settings_say_what_is_allowed(choice, says):
    with pytest.raises(ValueError, match=says):
        CacheSettings(**choice)
