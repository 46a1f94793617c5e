"""Which steps are I-steps."""

import re
from functools import partial

import pytest
from tiny_predictor import tiny_predictor

from tokencache_core.sampling.noise_time import flow_ratio, noise_time
from tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_core.schedules.choices import parse_steps, schedule_from_choices
from tokencache_core.schedules.known_models import known_places
from tokencache_core.schedules.resolved import resolved
from tokencache_core.schedules.run_simulator import FLOW_FADING
from tokencache_core.schedules.schedule import (
    CountSchedule,
    ErrorBoundSchedule,
    ExplicitSchedule,
    PercentileSchedule,
    Schedule,
    SpeedupSchedule,
    TwoPhaseSchedule,
    UniformSchedule,
)

TEN = [1 - i / 10 for i in range(10)]


def chosen(policy: str, **choices: object) -> Schedule:
    usual = {
        "interval": 3,
        "second_interval": 4,
        "split": 0.5,
        "warmup": 1,
        "steps": "0",
        "count": 4,
        "speedup": 0.0,
        "error_bound": 0.02,
    }
    return schedule_from_choices(policy, **{**usual, **choices})


def test_uniform_counts_from_the_last_warmup_step():
    assert UniformSchedule(interval=3, warmup=2).i_steps(TEN) == {0, 1, 4, 7}
    assert UniformSchedule(interval=1, warmup=1).i_steps(TEN) == set(range(10))
    assert UniformSchedule(interval=100, warmup=1).i_steps(TEN) == {0}


def test_a_count_is_placed_where_known_models_would_have_it():
    assert CountSchedule(4).i_steps(TEN) == set(known_places(4, TEN))
    assert CountSchedule(5, warmup=2).i_steps(TEN) == set(known_places(5, TEN, 2)) >= {0, 1}
    assert CountSchedule(99).i_steps(TEN) == set(range(10))
    assert chosen("count", count=4) == CountSchedule(4)


def test_a_run_shorter_than_the_warmup_is_all_i_steps():
    assert UniformSchedule(interval=3, warmup=5).i_steps(TEN[:2]) == {0, 1}
    assert TwoPhaseSchedule(2, 5, 0.5, warmup=5).i_steps(TEN[:2]) == {0, 1}


def test_two_phases_change_their_interval_where_the_time_is_split():
    # taus > 0.5 are steps 0..4, then one I-step every four steps
    assert TwoPhaseSchedule(2, 4, split=0.5, warmup=1).i_steps(TEN) == {0, 2, 4, 8}


def test_explicit_ignores_steps_beyond_the_run():
    assert ExplicitSchedule((0, 5, 30)).i_steps(TEN) == {0, 5}


def test_percentiles_put_more_i_steps_where_importance_is():
    flat = PercentileSchedule((0.0, 1.0), (1.0, 1.0), count=5)
    assert flat.i_steps(TEN) == {0, 1, 3, 5, 7}
    late = PercentileSchedule((0.0, 0.3, 0.31, 1.0), (1.0, 1.0, 0.0, 0.0), count=4)
    assert min(late.i_steps(TEN) - {0}) >= 7
    assert PercentileSchedule((0.0, 1.0), (1.0, 1.0), count=99).i_steps(TEN) == set(range(10))


def test_a_peak_wider_than_a_percentile_spreads_over_its_neighbours():
    peak = PercentileSchedule((0.0, 0.55, 0.6, 0.65, 1.0), (0.001, 0.001, 1.0, 0.001, 0.001), count=4)
    assert len(peak.i_steps(TEN)) == 4


def test_a_speed_up_leaves_so_many_i_steps():
    assert SpeedupSchedule(2.5).i_steps(TEN) == CountSchedule(4).i_steps(TEN)
    # 2 full steps and 8 at a quarter of one take as long as 4
    assert SpeedupSchedule(2.5).costing(0.25).i_steps(TEN) == CountSchedule(2).i_steps(TEN)
    assert SpeedupSchedule(1.0).costing(0.25).i_steps(TEN) == set(range(10))


def test_p_steps_cost_what_was_measured_and_no_less_than_their_tokens():
    assert SpeedupSchedule(2.5, p_step=0.25).costing(0.1) == SpeedupSchedule(2.5, p_step=0.25)
    assert SpeedupSchedule(2.5, p_step=0.25).costing(0.5) == SpeedupSchedule(2.5, p_step=0.5)


def test_a_speed_up_out_of_reach_is_said_and_comes_as_near_as_can_be():
    wanted = SpeedupSchedule(4.0).costing(0.5)
    assert re.match(
        "a speed-up of 4 is out of reach: 10 steps are at most 1.8 times as fast, since a P-step takes 50%",
        wanted.out_of_reach(10),
    )
    assert wanted.i_steps(TEN) == {0} and wanted.i_steps(TEN[:1]) == {0}
    assert "at most 1.0 times" in SpeedupSchedule(2.0).costing(1.0).out_of_reach(10)
    assert SpeedupSchedule(2.0).costing(1.0).i_steps(TEN) == {0}
    assert not SpeedupSchedule(1.8).costing(0.5).out_of_reach(10)


@pytest.mark.parametrize(
    ("notes", "p_step"),
    [
        # every 4th step and the first two: 4 whole ones, 6 in the time of one
        ({"steps": "10", "held_out_speedup": "2.0"}, 1 / 6),
        ({"steps": "10", "held_out_speedup": "5.0"}, 0.0),
        ({"steps": "10", "held_out_speedup": "0.5"}, 1.0),
        ({"steps": "10"}, 0.0),
        ({"steps": "many", "held_out_speedup": "2.0"}, 0.0),
        ({"steps": "10", "held_out_speedup": "nan"}, 0.0),
        ({"steps": "1000000000000", "held_out_speedup": "2.0"}, 0.0),
    ],
)
def test_a_predictor_knows_what_its_p_steps_cost(notes, p_step):
    assert tiny_predictor(interval=4, notes=notes).p_step == pytest.approx(p_step)


def test_a_speed_up_is_placed_by_warmup_or_percentiles():
    late = partial(PercentileSchedule, (0.0, 0.3, 0.31, 1.0), (1.0, 1.0, 0.0, 0.0))
    assert chosen("percentile", speedup=2.5, percentiles=late).i_steps(TEN) == late(4).i_steps(TEN)
    assert chosen("count", speedup=2.5, warmup=2).i_steps(TEN) == CountSchedule(4, warmup=2).i_steps(TEN)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ExplicitSchedule((1, 2)), "must contain 0"),
        (lambda: ExplicitSchedule((0, -2)), "-2 is not a step"),
        (lambda: UniformSchedule(0, 1), "interval must be at least 1"),
        (lambda: UniformSchedule(1, 0), "warmup must be at least 1"),
        (lambda: CountSchedule(0), "number of I-steps must be at least 1"),
        (lambda: TwoPhaseSchedule(1, 1, 1.5), "between 0 and 1"),
        (lambda: PercentileSchedule((0.0, 1.0), (0.0, 0.0), 3), "not zero everywhere"),
        (lambda: PercentileSchedule((0.0,), (1.0,), 3), "at least two points"),
        (lambda: parse_steps("0, x"), "separated by commas"),
        (lambda: chosen("weekly"), "policy must be"),
        (lambda: chosen("percentile"), "connect Load Cache Predictor"),
        (lambda: chosen("count", speedup=0.5), "speed-up must be at least 1"),
        (lambda: ErrorBoundSchedule(0.0), "above 0"),
    ],
)
def test_bad_schedules_say_what_to_do(make, says):
    with pytest.raises(ValueError, match=says):
        make()


RISING = [0.1, 0.3, 0.5, 0.7, 0.9]
RESTARTED = [0.9, 0.7, 0.5, 0.3, 0.1, 0.6, 0.4, 0.2]


@pytest.mark.parametrize(
    "schedule",
    [AutomaticSchedule(), AutomaticSchedule(count=3), AutomaticSchedule(speedup=2.0), CountSchedule(3)],
    ids=str,
)
def test_where_noise_rises_another_run_begins(schedule):
    assert resolved(schedule, RISING, 0.0).i_steps == frozenset(range(5))
    places, first, then = (resolved(schedule, taus, 0.0).i_steps for taus in (RESTARTED, RESTARTED[:5], RESTARTED[5:]))
    assert {0, 5} <= places
    assert len(places) == 3 if schedule.count else places == first | {step + 5 for step in then}


@pytest.mark.parametrize(
    "schedule", [AutomaticSchedule(8), CountSchedule(8), SpeedupSchedule(2.0, CountSchedule)], ids=str
)
def test_known_models_are_asked_for_the_model_that_is_run(schedule):
    taus = [noise_time(flow_ratio(6 * t / (1 + 5 * t))) for t in (1 - step / 16 for step in range(16))]
    flow = resolved(schedule, taus, 0.0, FLOW_FADING).i_steps
    assert flow == frozenset(known_places(8, taus, fading=FLOW_FADING)) != resolved(schedule, taus, 0.0).i_steps


def test_listed_steps_are_of_the_whole_run_whatever_its_noise_does():
    assert resolved(ExplicitSchedule((0, 6)), RESTARTED, 0.0).i_steps == {0, 6}
