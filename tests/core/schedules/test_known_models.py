"""Where known models would have I-steps: the default of any model."""

import numpy as np
import pytest

from tokencache_core.sampling.noise_time import flow_ratio, noise_time
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_core.schedules.known_models import (
    KnownModel,
    known_errors_db,
    known_models,
    known_places,
    known_records,
)
from tokencache_core.schedules.run_simulator import FLOW_FADING, RunSimulator
from tokencache_core.schedules.usual_count import gain_db, usual_count, whole_steps_error_db
from tokencache_core.settings import CacheSettings


def taus(steps: int, name: str = "ddpm", shift: float | None = None) -> tuple[float, ...]:
    return tuple(noise_time(sigma) for sigma in SigmaSchedule(name, shift).sigmas(steps)[:-1].tolist())


def gaps(places: tuple[int, ...]) -> list[int]:
    return [then - here for here, then in zip(places, places[1:])]


@pytest.mark.parametrize("count, steps", [(8, 20), (10, 20), (11, 28)])
def test_on_a_flow_models_schedule_they_are_dense_first_and_then_ever_further_apart(count, steps):
    found = gaps(known_places(count, taus(steps, "flow", 3.0), fading=FLOW_FADING))
    assert found[0] <= 2 and max(found) > found[0] and found[:5] == sorted(found[:5])


def test_a_flow_model_has_them_where_a_ddpm_model_with_the_same_noise_has_them():
    flow = [step / 20 for step in range(20, 0, -1)]
    flow = [3 * s / (1 + 2 * s) for s in flow]
    ratios = [min(flow_ratio(s), float(SigmaSchedule().sigmas(1)[0])) for s in flow]
    assert known_places(8, tuple(noise_time(ratio) for ratio in ratios)) == known_places(8, taus(20, "flow", 3.0))


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20, 50, 61, 250])
@pytest.mark.parametrize("warmup", [1, 3])
def test_there_are_as_many_as_asked_for(steps, warmup):
    for count in {1, 2, steps // 3 + 1, max(1, steps - 1), steps, steps + 5}:
        places = known_places(count, taus(steps), warmup)
        first = min(warmup, count, steps)
        assert (
            len(places) == min(count, steps)
            and places[:first] == tuple(range(first))
            and places[-1] < steps
            and min(gaps(places), default=1) > 0
        )


def test_they_do_not_depend_on_what_was_asked_before():
    assert known_places(7, taus(20)) == known_places(7, list(taus(20)))


def test_a_flow_model_that_begins_at_noise_alone_has_finite_moves():
    for model in known_models():
        record = model.record([1.0, 0.8, 0.5, 0.1])
        assert np.isfinite(record.moves).all() and np.isfinite(record.products).all() and (record.moves < 0).all()


def test_a_flow_models_x_has_its_own_terms():
    taus = [noise_time(3.0), noise_time(1.0)]  # 0.75 and 0.5 of noise in x
    flow, other = (
        KnownModel("toy", is_flow, np.array([0.0, 1.0]), *np.zeros((2, 1, 2, 1))) for is_flow in (True, False)
    )
    assert flow.record(taus).sigmas == pytest.approx((0.75, 0.5, 0.0)) and flow.record(taus).scales == (1.0, 1.0)
    assert flow.record(taus).moves.tolist() == [pytest.approx(-0.25 / 0.5), pytest.approx(-0.5)]
    assert other.record(taus).sigmas == pytest.approx((3.0, 1.0, 0.0))
    assert other.record(taus).scales == pytest.approx((10**-0.5, 2**-0.5))


def test_each_known_model_has_its_say():
    assert sorted({model.is_flow for model in known_models()}) == [False, True]
    places = [known_places(8, taus(20)), tuple(range(8))]
    flows, others = (
        RunSimulator(record, CacheSettings(order=1, reach=1.08, corrector=0.3, fitted=True)).errors_db(places)
        for record in known_records(taus(20))
    )
    assert known_errors_db(taus(20), places).tolist() == pytest.approx(((flows + others) / 2).tolist())


def test_models_are_left_out_by_the_beginning_of_their_names():
    left = [model.name for model in known_models("emoji-flux")]
    assert left == ["emoji-clips", "emoji-dit", "nine-classes-dit"] and len(known_models()) == 5
    assert len(known_records(taus(20), "emoji-flux")) == 1  # no flow model is left
    places = [known_places(8, taus(20))]
    assert known_errors_db(taus(20), places, without="emoji-flux") != known_errors_db(taus(20), places)


def test_between_known_times_directions_are_read_off_smoothly():
    times = [0.9, 0.7001, 0.7, 0.3]
    for model in known_models():
        products = model.record(times).products
        assert np.allclose(products[:, 1], products[:, 2], rtol=1e-2)
        assert np.allclose(products, products.transpose(0, 2, 1)) and (np.linalg.eigvalsh(products) > -1e-6).all()


@pytest.mark.parametrize(
    "schedule, count",
    [
        (AutomaticSchedule(), 8),
        (AutomaticSchedule(count=5), 5),
        (AutomaticSchedule(speedup=2.0), 10),
        (AutomaticSchedule(speedup=1.0), 20),
    ],
)
def test_the_automatic_schedule_takes_a_count_a_speed_up_or_the_usual_number(schedule, count):
    assert len(schedule.i_steps(taus(20))) == count


def test_the_usual_number_is_about_a_third_and_more_where_few_steps_leave_nothing_to_gain():
    assert [usual_count(taus(steps)) for steps in (1, 2, 4, 8, 20, 50, 250)] == [1, 2, 4, 8, 8, 18, 82]
    assert (
        usual_count(taus(8, "karras")) == 5 and usual_count(taus(10, "flow", 3.0)) == 6 and usual_count(taus(10)) == 10
    )


def test_all_whole_steps_end_where_the_run_ends_and_fewer_the_farther_the_fewer():
    errors = [whole_steps_error_db(count, taus(20)) for count in (4, 8, 16, 20)]
    assert errors[-1] <= -120 and errors == sorted(errors, reverse=True)
    assert gain_db(10, taus(20)) > 4


@pytest.mark.parametrize("wrong", [{"count": -1}, {"speedup": 0.5}])
def test_what_is_no_count_or_speed_up_is_refused(wrong):
    with pytest.raises(ValueError):
        AutomaticSchedule(**wrong)
