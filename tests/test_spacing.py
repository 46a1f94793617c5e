"""How far apart I-steps lie."""

import pytest

from tokencache_core.spacing import i_steps_every, spread_i_steps


def gaps(i_steps: tuple[int, ...]) -> list[int]:
    return [then - here for here, then in zip(i_steps, i_steps[1:])]


@pytest.mark.parametrize("count, steps, warmup, expected", [
    (1, 4, 3, (0,)), (4, 4, 1, (0, 1, 2, 3)), (2, 10, 3, (0, 1)), (9, 4, 1, (0, 1, 2, 3)),
    (3, 10, 1, (0, 5, 8)),                           # 5 of 9 gaps would leave 1.2 P-steps at the end: 1; 4 and 4, so 5 and 3
    (17, 50, 1, (0, *range(5, 48, 3), 49)),          # 49 steps in 16 gaps: one of 4, then 15 of 3; the first one more, the last one less
    (10, 50, 1, (0, 7, 13, *range(19, 45, 5), 48)),  # gaps of 5.4 on average: 1 P-step after the last I-step
    (18, 50, 2, (0, 1, *range(5, 48, 3), 49)),
    (25, 50, 1, (0, *range(3, 50, 2))),              # gaps of 2 are short enough
])
def test_a_count_is_spread_with_the_longer_gaps_first_and_the_last_a_step_shorter(count, steps, warmup, expected):
    assert spread_i_steps(count, steps, warmup) == expected


@pytest.mark.parametrize("interval, steps, warmup, expected", [
    (3, 50, 2, (0, 1, *range(5, 48, 3), 49)), (3, 20, 2, (0, 1, 5, 8, 11, 14, 17, 19)), (3, 12, 2, (0, 1, 4, 7, 9, 11)),
    (5, 50, 1, (0, *range(6, 42, 5), 45, 48)), (1, 4, 1, (0, 1, 2, 3)), (100, 10, 2, (0, 1)), (3, 2, 5, (0, 1)),
])
def test_an_interval_is_the_longest_gap_but_the_first(interval, steps, warmup, expected):
    assert i_steps_every(interval, steps, warmup) == expected


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20, 50, 250])
@pytest.mark.parametrize("warmup", [1, 2, 3, 5])
def test_every_count_and_interval_can_be_placed(steps, warmup):
    for count in range(1, steps + 1):
        placed = spread_i_steps(count, steps, warmup)
        assert len(placed) == count and placed[0] == 0 and placed[-1] < steps
        after = gaps(placed)[warmup - 1 :]
        assert after == sorted(after, reverse=True) and (not after or after[0] - after[-1] <= 3)
    for interval in range(1, 60):
        placed = i_steps_every(interval, steps, warmup)
        assert placed[0] == 0 and placed[-1] < steps and max(gaps(placed), default=1) <= interval + 1
        assert max(gaps(placed)[warmup:], default=1) <= interval
