"""I-steps by expected error: hand-computed on polynomials, then in cached runs of a DiT."""

from __future__ import annotations

import pytest
import torch
from tiny_dit import tiny_dit
from torch import Tensor

from tokencache_core.dit.sampling import cached_sample, sample
from tokencache_core.engine.record import Report
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.error_bound import ErrorBound
from tokencache_core.schedules.schedule import ErrorBoundSchedule
from tokencache_core.settings import CacheSettings

X = torch.full((1, 1, 1, 2), 2.0)  # root mean square 2


def direction(value: float) -> Tensor:
    return torch.full((1, 1, 1, 2), value)


def after(*i_steps: tuple[float, float], **choices: float) -> ErrorBound:
    """Of order 0 and a wide bound unless chosen otherwise, after I-steps at (tau, direction)."""
    error = ErrorBound(**{"bound": 100.0, "order": 0, **choices})
    for tau, value in i_steps:
        error.add_i_step(tau, X, direction(value))
    return error


def test_two_i_steps_come_before_any_p_step():
    assert not after().allows(1.0, -1.0)
    assert not after((1.0, 0.0)).allows(0.9, -1.0)
    assert after((1.0, 0.0), (0.9, 0.5)).allows(0.8, -1.0)


def test_what_is_held_is_wrong_by_the_slope_times_the_time():
    """The line 5 (1 - tau), held from 0.9 on: wrong by 0.5 at 0.8 and 1.0 at 0.7; x is 2, and moves by 0.4 and 0.2 of
    that.
    """
    error = after((1.0, 0.0), (0.9, 0.5), bound=0.16)
    assert error.allows(0.8, -0.4) and error.expected == pytest.approx(0.5 * 0.4 / 2)
    assert not error.allows(0.7, -0.2)  # 0.1 + 0.1
    assert error.allows(0.7, -0.1)  # 0.1 + 0.05


def test_p_steps_reach_twice_as_far_as_the_last_gap():
    error = after((1.0, 0.0), (0.9, 0.5))
    assert error.allows(0.7, -0.1) and not error.allows(0.68, -0.1)


def test_less_of_it_where_some_tokens_are_computed():
    error = after((1.0, 0.0), (0.9, 0.5), reused=0.5)
    assert error.allows(0.8, -0.4) and error.expected == pytest.approx(0.05)


def test_a_forecast_of_order_1_errs_by_the_curvature():
    """On the parabola (1 - tau)^2 a line through 0.8 and 0.7 is wrong at 0.5 by 1 x 0.3 x 0.2."""
    error = after(*[(tau, (1 - tau) ** 2) for tau in (1.0, 0.8, 0.7)], order=1)
    assert error.allows(0.5, -2.0) and error.expected == pytest.approx(0.3 * 0.2 * 2 / 2)


def test_an_i_step_resets_the_error_and_one_at_the_same_time_replaces():
    error = after((1.0, 9.0), (1.0, 0.0), (0.9, 0.5))
    assert error.allows(0.8, -0.4) and error.expected == pytest.approx(0.1)
    error.add_i_step(0.7, X, direction(1.5))
    assert error.expected == 0


def cached(bound: float, solver: str = "ddim", **settings: object) -> tuple[Tensor, Report]:
    sigmas = simple_sigmas(16)
    noise = starting_noise((2, 4, 8, 8), 5, sigmas[0])
    return cached_sample(
        tiny_dit(),
        torch.tensor([0, 3]),
        noise=noise,
        sigmas=sigmas,
        cfg=2.0,
        solver=solver,
        settings=CacheSettings(**settings),
        schedule=ErrorBoundSchedule(bound),
    )


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
def test_a_lower_bound_costs_more_i_steps(solver):
    counts = [sum(step.kind == "I" for step in cached(bound, solver)[1].steps) for bound in (1e-9, 0.003, 10.0)]
    assert counts[0] == 16 and counts[0] > counts[1] > counts[2] == 4  # 0, 1, 4, 11


def test_a_run_of_i_steps_alone_is_the_plain_run():
    sigmas = simple_sigmas(16)
    noise = starting_noise((2, 4, 8, 8), 5, sigmas[0])
    plain = sample(tiny_dit(), torch.tensor([0, 3]), noise=noise, sigmas=sigmas, cfg=2.0, solver="ddim")
    samples, report = cached(1e-9)
    assert {step.kind for step in report.steps} == {"I"} and torch.equal(samples, plain)
