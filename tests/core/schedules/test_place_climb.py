"""The search for places with the smallest error."""

import numpy as np
import pytest

from tokencache_core.schedules.place_climb import (
    ENOUGH_OF_A_SHIFT,
    FARTHEST,
    LONG,
    PER_CHANGE,
    best_places,
    climbed,
    long_shifts,
    small_moves,
    unevenness,
)

EVEN = tuple(range(0, 2 * LONG + 4, 2))  # with two I-steps more than a long shift moves
SHIFTED = (0, *(step + 1 for step in EVEN[1:-1]), EVEN[-1])


def test_small_moves_are_all_lists_of_as_many_places_that_one_move_makes():
    found = set(small_moves((0, 2), 4))
    assert found == {(0, 1), (0, 3)}
    assert all(len(set(places)) == 3 and places[0] == 0 and max(places) < 6 for places in small_moves((0, 2, 5), 6))


def test_long_shifts_make_one_gap_longer_and_another_one_shorter():
    found = list(long_shifts(EVEN, EVEN[-1] + 1))
    assert SHIFTED in found and len(found) == 2
    assert sorted(np.diff(places).tolist() for places in found) == sorted(
        [[3, *[2] * (LONG - 1), 1], [1, *[2] * (LONG - 1), 3]]
    )
    assert not list(long_shifts(EVEN[:-1], EVEN[-1]))


@pytest.mark.parametrize("gain, is_made", [(1.1, True), (0.9, False)])
def test_a_long_shift_must_gain_more_than_chance(gain, is_made):
    def errors(candidates):
        gained = [
            gain * ENOUGH_OF_A_SHIFT * (places == SHIFTED) - 9 * (places not in (EVEN, SHIFTED))
            for places in candidates
        ]
        return -np.array(gained)

    places, _ = climbed(EVEN, EVEN[-1] + 1, errors)
    assert places == (SHIFTED if is_made else EVEN)


def test_a_climb_ends_where_no_move_helps():
    def errors(candidates):
        return np.array([abs(sum(places) - 11) for places in candidates], dtype=float)

    places, error = climbed((0, 1, 2), 8, errors)
    assert sum(places) == 11 and error == 0


def test_no_move_takes_an_i_step_far():
    reached = set[int]().union(*small_moves((0, 10), 30))
    assert reached == {0, *range(10 - FARTHEST, 11 + FARTHEST)} - {10}


@pytest.mark.parametrize(
    "places, found", [((0, 2, 4, 6), 0), ((0, 1, 3, 5), 1), ((0, 4, 5), 4), ((0, 3), 0), ((0,), 0)]
)
def test_unevenness_counts_the_octaves_between_neighbouring_gaps(places, found):
    assert unevenness(places) == found


@pytest.mark.parametrize("gain, wins", [(0.9, False), (1.1, True)])  # in terms of what the unevenness costs
def test_uneven_places_must_be_better_by_more_than_chance(gain, wins):
    uneven, times = (0, 2, 6, 9), [1 - step / 10 for step in range(10)]
    cost = PER_CHANGE * unevenness(uneven)

    def errors(candidates):
        return np.array([-gain * cost * (places == uneven) for places in candidates])

    found = best_places(4, times, errors)
    assert (found == uneven) is wins and (wins or unevenness(found) == 0)
