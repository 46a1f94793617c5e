"""The noise time: one variable for eps, v and flow models."""

import math

import pytest

from tokencache_core.sampling.noise_schedule import TRAIN_STEPS, train_sigmas
from tokencache_core.sampling.noise_time import flow_ratio, noise_ratio, noise_time


def test_it_is_the_timestep_of_a_ddpm_model():
    for step in (10, 100, 500, 900):
        assert noise_time(float(train_sigmas()[step])) == pytest.approx((step + 1) / TRAIN_STEPS, abs=0.012)


def test_it_is_defined_at_both_ends_and_rises_between_them():
    times = [noise_time(sigma) for sigma in (0.0, 1e-3, 0.1, 1.0, 10.0, 100.0, 1e3, math.inf)]
    assert times[0] == 0 and times[-1] == pytest.approx(1) and times == sorted(set(times))


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 7.0, 80.0])
def test_a_flow_model_has_the_time_of_the_same_signal_to_noise_ratio(sigma):
    assert noise_time(flow_ratio(sigma / (1 + sigma))) == pytest.approx(noise_time(sigma))


def test_a_flow_model_begins_at_the_time_of_noise_alone():
    assert flow_ratio(1.0) == math.inf and noise_time(flow_ratio(1.0)) == pytest.approx(1)


@pytest.mark.parametrize("sigma", [0.02, 0.3, 1.0, 7.0, 80.0])
def test_a_time_has_its_sigma(sigma):
    assert noise_ratio(noise_time(sigma)) == pytest.approx(sigma, rel=1e-3)


@pytest.mark.parametrize("sigma", [-1.0, float("nan")])
def test_what_is_no_noise_is_refused(sigma):
    with pytest.raises(ValueError, match="0 or more"):
        noise_time(sigma)
