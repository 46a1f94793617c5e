"""Where I-steps lie: moved about, found again in runs of other lengths."""

from __future__ import annotations

from random import Random

import pytest

from tokencache_core.tuning.place_search import PATIENCE, PlaceSearch, moved


def test_a_move_keeps_the_first_step_and_the_number_of_i_steps():
    random, places = Random(1), (0, 3, 6, 9)
    tried = {moved(places, 12, random) for _ in range(300)}
    assert all(len(each) == 4 and each[0] == 0 for each in tried)
    assert {(0, 2, 6, 9), (0, 4, 7, 10), (0, 3, 6, 11), (0, 1, 3, 9)} <= tried  # one, all that follow, elsewhere


def climb(value, places=(0, 3, 6, 9), steps=12, known=True):
    search, tried = PlaceSearch(places, steps, value(places) if known else None), []
    while (proposed := search.propose()) is not None:
        tried.append(proposed)
        search.learn(proposed, value(proposed))
    return search, tried


def test_it_climbs_to_the_best_places_and_tries_none_twice():
    wanted = (0, 1, 5, 11)
    search, tried = climb(lambda places: -sum(abs(a - b) for a, b in zip(places, wanted)))
    assert search.places == wanted and search.value == 0
    assert len(set(tried)) == len(tried) and all(sorted(set(each)) == list(each) and each[-1] < 12 for each in tried)


def test_it_stops_where_nothing_helps():
    search, tried = climb(lambda places: float(places == (0, 3, 6, 9, 12, 15, 18)), (0, 3, 6, 9, 12, 15, 18), 21)
    assert search.places == (0, 3, 6, 9, 12, 15, 18) and len(tried) == PATIENCE


def test_a_run_that_came_to_no_number_is_no_gain():
    search = PlaceSearch((0, 3, 6), 12, 30.0)
    assert not search.learn((0, 3, 7), float("nan")) and search.places == (0, 3, 6)


def test_the_first_places_are_tried_where_their_value_is_not_known():
    _, tried = climb(lambda places: 0.0, known=False)
    assert tried[0] == (0, 3, 6, 9)


@pytest.mark.parametrize("places", [(0,), tuple(range(12))])
def test_nothing_is_to_be_moved_where_there_is_no_other_place(places):
    assert climb(lambda places: 0.0, places)[1] == []
