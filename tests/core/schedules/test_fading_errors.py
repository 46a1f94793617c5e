"""Errors that fade: by hand, on a record of three or four steps."""

from functools import partial
from math import inf, log10

import numpy as np
import pytest

from tokencache_core.schedules.fading_errors import TOGETHER, FadingErrors
from tokencache_core.schedules.run_record import RunRecord, noise_of
from tokencache_core.settings import CacheSettings


def record(directions: list[float], moves: list[float], taus: tuple[float, ...]) -> RunRecord:
    """Of one sample of one element, with these `RunRecord.moves`."""
    sigmas = [-moves[-1], 0.0]
    for move, tau in zip(moves[-2::-1], taus[:0:-1]):
        sigmas.insert(0, sigmas[0] * (1 - move / noise_of(tau)))
    return RunRecord(taus, tuple(sigmas), (1.0,) * len(taus), np.outer(directions, directions)[None])


def error_db(
    record: RunRecord, places: tuple[int, ...], dampings: tuple[float, ...] = (inf,), **settings: float
) -> float:
    """The error of one simulated run."""
    return float(FadingErrors(record, CacheSettings(**settings), dampings).errors_db([places])[0])


BENT = record([4.0, 3.0, 1.0], [-1.0, -1.0, -1.0], (0.75, 0.5, 0.25))


@pytest.mark.parametrize(
    "order, reach, places, error",
    [
        (0, 1.0, (0, 1), 2.0),  # step 2 holds 3 where it is 1, and moves x by -1
        (1, 1.0, (0, 1), 1.0),  # the line through 4 and 3 is 2 there
        (1, 2.0, (0, 1), 0.0),  # and, taken twice as far, 1
        (1, 1.0, (0,), 4.0),  # 4 for 3, and 4 for 1: both lead astray the same way
        (0, 1.0, (0, 2), 1.0),  # 4 for 3
    ],
)
def test_the_error_of_p_steps_is_what_forecasts_miss_times_the_move(order, reach, places, error):
    assert error_db(BENT, places, order=order, reach=reach, corrector=0.0) == pytest.approx(
        20 * log10(max(error, 1e-6))
    )


def test_an_i_step_takes_back_its_share_of_what_it_shows_to_have_been_wrong():
    # at step 1 the line through 4 (step 0) and 1 (step 2) is 2.5, and 4 was forecast: 1.5 too much, of an error of 1
    assert error_db(BENT, (0, 2), order=0, reach=1.0, corrector=0.5) == pytest.approx(20 * log10(abs(1 - 0.5 * 1.5)))


def test_errors_of_two_windows_cancel_in_part():
    swaying = record([2.0, 3.0, 2.0, 1.0], [-1.0] * 4, (0.8, 0.6, 0.4, 0.2))  # holding 2 is wrong by -1, and then by 1
    simulated = partial(error_db, swaying, order=0, reach=1.0, corrector=0.0)
    assert simulated((0, 2)) == pytest.approx(10 * log10((1 - TOGETHER) * (1 + 1)))
    assert simulated((0,)) <= -120  # within one window they do


def test_errors_made_where_the_noise_is_strong_fade():
    noisy = record([1.0, 2.0], [-1.0, -3.0], (0.9, 0.5))
    simulated = partial(error_db, noisy, (0,), order=0, reach=1.0, corrector=0.0)
    lasting, fading, both = (simulated(dampings=each) for each in ((inf,), (0.1,), (inf, 0.1)))
    assert fading < lasting - 20
    assert both == pytest.approx((lasting + fading) / 2)


def test_a_run_without_p_steps_is_no_further_than_can_be_told():
    assert error_db(BENT, (0, 1, 2), order=2, reach=1.0, corrector=0.3) <= -120


def test_moves_are_in_units_of_the_signal():
    flow = RunRecord((0.6, 0.3), (0.75, 0.5, 0.0), (1.0, 1.0), np.zeros((1, 2, 2)))
    signal = 0.5 / noise_of(0.3)  # at sigma 0.5
    assert flow.moves.tolist() == [pytest.approx(-0.25 / signal), -0.5]
