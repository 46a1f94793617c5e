"""Places carried from one run to another, at the same noise."""

import pytest

from tokencache_core.schedules.noise_places import even_in_noise, even_in_steps
from tokencache_core.schedules.placed import PlacedSchedule, carried, nearest_steps, same_run


def even(steps: int) -> list[float]:
    return [1 - step / steps for step in range(steps)]


DENSE_FIRST = (0, 2, 4, 6, 8, 16, 24)  # of 25: every other step, then every eighth


def test_the_same_run_has_the_same_places():
    assert carried(DENSE_FIRST, even(25), 7, even(25)) == DENSE_FIRST


def test_a_run_of_twice_the_steps_has_as_dense_places_at_each_noise():
    assert carried(DENSE_FIRST, even(25), 13, even(50)) == (0, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32, 40, 48)


def test_a_run_whose_steps_lie_elsewhere_has_its_places_at_the_same_noise():
    noisy = [1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5, 0.3, 0.1]
    assert carried((0, 5, 9), even(10), 3, noisy) == (0, 7, 9)  # times 1, 0.5 and 0.1


def test_fewer_places_lie_along_the_same_curve():
    assert carried(DENSE_FIRST, even(25), 4, even(25)) == (0, 4, 8, 24)
    assert carried((0,), even(25), 1, even(3)) == (0,)
    assert carried(DENSE_FIRST, even(25), 9, even(5)) == (0, 1, 2, 3, 4)


def test_the_first_i_step_is_the_first_step_wherever_its_time_lies():
    assert nearest_steps([0.5], [1.0, 0.5]) == (0,)


def test_runs_are_the_same_where_all_steps_are_within_a_thousandth():
    assert same_run([1.0, 0.5], [1.0005, 0.4995])
    assert not same_run([1.0, 0.5], [1.0, 0.5011])
    assert not same_run([1e-3], [0.0])
    assert not same_run([1.0, 0.5], [1.0]) and not same_run([1.0], [1.0, 0.5])


def test_two_places_are_the_first_and_the_last_of_many():
    assert carried((0, 4, 8), even(10), 2, even(10)) == (0, 8)


def test_each_time_has_a_step_of_its_own_and_later_ones_still_fit():
    assert nearest_steps([1.0, 0.99, 0.98], even(10)) == (0, 1, 2)
    assert nearest_steps([1.0, 0.0, 0.0], even(4)) == (0, 2, 3)


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50, 333])
def test_any_run_has_as_large_a_share(steps):
    found = PlacedSchedule((0, 1, 2, 40, 49), tuple(even(50))).i_steps(even(steps))
    assert 0 in found and len(found) == max(1, round(steps / 10)) and max(found) < steps


@pytest.mark.parametrize("places", [(), (1, 2), (0, 2, 2), (0, 5, 3), (0, 50)])
def test_places_that_are_none_are_refused(places):
    with pytest.raises(ValueError, match="rise from 0 to 49"):
        PlacedSchedule(places, tuple(even(50)))


@pytest.mark.parametrize(
    "count, warmup, places",
    [(4, 1, (0, 3, 5, 8)), (3, 2, (0, 1, 6)), (1, 1, (0,)), (10, 1, tuple(range(10))), (99, 3, tuple(range(10)))],
)
def test_even_places_leave_half_a_gap_behind_them(count, warmup, places):
    assert even_in_noise(count, even(10), warmup) == places


def test_a_higher_power_is_denser_where_the_noise_is():
    assert even_in_noise(4, even(40), power=2.0) < even_in_noise(4, even(40))


@pytest.mark.parametrize(
    "count, steps, places",
    [(1, 5, (0,)), (8, 20, (0, 3, 6, 9, 12, 15, 17, 19)), (5, 5, (0, 1, 2, 3, 4)), (2, 9, (0, 8))],
)
def test_gaps_that_are_even_in_the_steps_number_never_grow(count, steps, places):
    assert even_in_steps(count, steps) == places
