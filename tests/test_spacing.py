"""How far apart I-steps lie."""

import pytest

from tokencache_core.spacing import i_steps_every, spread_i_steps


def gaps(i_steps: tuple[int, ...]) -> list[int]:
    return [then - here for here, then in zip(i_steps, i_steps[1:])]


@pytest.mark.parametrize("count, steps, warmup, expected", [
    (1, 4, 3, (0,)), (4, 4, 1, (0, 1, 2, 3)), (2, 10, 3, (0, 1)), (9, 4, 1, (0, 1, 2, 3)),
    (3, 10, 1, (0, 4, 8)),                           # 5 of 9 gaps would leave 1.2 P-steps at the end: 1
    (17, 50, 1, (0, 4, *range(7, 50, 3))),           # 49 steps in 16 gaps: one of 4, then 15 of 3
    (10, 50, 1, (0, 6, 12, 18, *range(23, 49, 5))),  # gaps of 5.4 on average: 1 P-step after the last I-step
    (18, 50, 2, (0, 1, *range(4, 50, 3))),
])
def test_a_count_is_spread_with_the_longer_gaps_first(count, steps, warmup, expected):
    assert spread_i_steps(count, steps, warmup) == expected


@pytest.mark.parametrize("interval, steps, warmup, expected", [
    (3, 50, 2, (0, 1, *range(4, 50, 3))), (3, 20, 2, (0, 1, 4, 7, 10, 13, 16, 19)), (3, 12, 2, (0, 1, 4, 7, 9, 11)),
    (5, 50, 1, (*range(0, 41, 5), 44, 48)), (1, 4, 1, (0, 1, 2, 3)), (100, 10, 2, (0, 1)), (3, 2, 5, (0, 1)),
])
def test_an_interval_is_the_longest_gap(interval, steps, warmup, expected):
    assert i_steps_every(interval, steps, warmup) == expected


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20, 50, 250])
@pytest.mark.parametrize("warmup", [1, 2, 3, 5])
def test_every_count_and_interval_can_be_placed(steps, warmup):
    for count in range(1, steps + 1):
        placed = spread_i_steps(count, steps, warmup)
        assert len(placed) == count and placed[0] == 0 and placed[-1] < steps
        after = gaps(placed)[warmup - 1 :]
        assert after == sorted(after, reverse=True) and (not after or after[0] - after[-1] <= 1)
    for interval in range(1, 60):
        placed = i_steps_every(interval, steps, warmup)
        assert placed[0] == 0 and placed[-1] < steps and max(gaps(placed), default=1) <= interval
