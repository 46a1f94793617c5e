"""Reuse and forecast of cached updates, against polynomials that they must reproduce."""

import pytest
import torch

from tokencache_core.engine.forecast import SpanHistory, TokenHistory, lagrange_weights

POLYNOMIALS = {0: lambda t: 3.0 + 0 * t, 1: lambda t: 3.0 - 2 * t, 2: lambda t: 3.0 - 2 * t + 5 * t * t}


def test_weights_of_evenly_spaced_nodes_are_the_binomials():
    assert lagrange_weights([0.3, 0.4, 0.5], 0.2) == pytest.approx([3, -3, 1])
    assert lagrange_weights([0.3, 0.4], 0.2) == pytest.approx([2, -1])


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_run_forecasts_polynomials_of_its_order_exactly(order):
    polynomial, history = POLYNOMIALS[order], SpanHistory(order)
    for tau in (0.9, 0.8, 0.55, 0.5):
        history.refresh(torch.full((1, 2, 3), polynomial(torch.tensor(tau)).item()), tau)
    x = torch.ones(1, 2, 3)
    assert torch.allclose(history.add_forecast(x, 0.3), 1 + polynomial(torch.tensor(0.3)), atol=1e-5)
    assert torch.equal(x, torch.ones(1, 2, 3))  # the input is left alone


@pytest.mark.parametrize("make", [lambda: SpanHistory(1, reach=1.5), lambda: TokenHistory(1, reach=1.5)])
def test_a_forecast_reaches_so_many_times_as_far_as_its_step(make):
    history = make()
    for tau, value in ((0.9, 1.0), (0.8, 3.0)):
        history.refresh(torch.full((1, 1, 1), value), tau)
    assert history.add_forecast(torch.zeros(1, 1, 1), 0.7).item() == pytest.approx(3 + 1.5 * 2, abs=1e-5)
    assert history.add_forecast(torch.zeros(1, 1, 1), 0.6).item() == pytest.approx(3 + 1.5 * 4, abs=1e-5)


def test_it_is_the_distance_from_the_last_refresh_where_a_run_has_gone_back_up():
    history = SpanHistory(1, reach=1.5)
    for tau, value in ((0.2, 2.0), (0.1, 1.0), (1.0, 10.0)):  # the line 10 tau; two are kept
        history.refresh(torch.full((1, 1, 1), value), tau)
    assert history.add_forecast(torch.zeros(1, 1, 1), 0.8).item() == pytest.approx(10 * (1.0 - 1.5 * 0.2), abs=1e-4)


@pytest.mark.parametrize("order", [1, 2])
def test_fewer_refreshes_than_the_order_needs_forecast_at_a_lower_order(order):
    history = SpanHistory(order)
    history.refresh(torch.full((1, 1, 1), 7.0), 0.9)
    assert history.add_forecast(torch.zeros(1, 1, 1), 0.5).item() == 7.0


def test_a_second_refresh_at_one_time_replaces_the_first():
    run, tokens = SpanHistory(2), TokenHistory(2)
    for tau, value in ((0.9, 1.0), (0.8, 5.0), (0.8, 2.0)):
        for history in (run, tokens):
            history.refresh(torch.full((1, 1, 1), value), tau)
    for history in (run, tokens):
        assert history.add_forecast(torch.zeros(1, 1, 1), 0.7).item() == pytest.approx(3.0, abs=1e-5)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_token_computed_in_between_carries_its_deviation_from_the_forecast(order):
    polynomial, history = POLYNOMIALS[order], TokenHistory(order)
    for tau in (0.9, 0.8, 0.7):
        history.refresh(torch.full((1, 3, 1), polynomial(torch.tensor(tau)).item()), tau)
    history.refresh_some(polynomial(torch.full((1, 1), 0.6)) + 5, 0.6, torch.tensor([1]))
    history.refresh_some(polynomial(torch.full((2, 1), 0.5)) + torch.tensor([[2.0], [-1.0]]), 0.5, torch.tensor([1, 2]))
    forecast = history.add_forecast(torch.zeros(1, 3, 1), 0.4).flatten()
    expected = polynomial(torch.tensor(0.4)) + torch.tensor([0.0, 2.0, -1.0])  # each token's newest deviation
    assert torch.allclose(forecast, expected, atol=1e-4)
    history.refresh(torch.full((1, 3, 1), polynomial(torch.tensor(0.3)).item()), 0.3)
    assert torch.allclose(
        history.add_forecast(torch.zeros(1, 3, 1), 0.2).flatten(), polynomial(torch.tensor(0.2)).expand(3), atol=1e-4
    )


def test_order_0_reuses_each_tokens_newest_update():
    history = TokenHistory(0)
    history.refresh(torch.tensor([[[1.0], [2.0]]]), 0.9)
    history.refresh_some(torch.tensor([[7.0]]), 0.8, torch.tensor([1]))
    assert history.add_forecast(torch.ones(1, 2, 1), 0.5).flatten().tolist() == [2.0, 8.0]


def test_the_oldest_refresh_goes_first():
    history = TokenHistory(1)
    for tau, value in ((0.9, 100.0), (0.5, 2.0), (0.4, 3.0)):
        history.refresh(torch.full((1, 1, 1), value), tau)
    assert history.add_forecast(torch.zeros(1, 1, 1), 0.3).item() == pytest.approx(4.0, abs=1e-4)


def test_change_rate_is_the_slope_between_the_two_newest():
    history = TokenHistory(2)
    history.refresh(torch.zeros(1, 2, 2), 0.9)
    history.refresh(torch.tensor([[[3.0, 4.0], [0.0, 0.0]]]), 0.4)
    assert history.change_rate().tolist() == [[pytest.approx(10.0), 0.0]]


def test_half_precision_streams_keep_their_type_and_the_history_float32():
    history = SpanHistory(1)
    history.refresh(torch.full((1, 1, 1), 1.0), 0.9)
    history.refresh(torch.full((1, 1, 1), 1.001), 0.8)
    out = history.add_forecast(torch.zeros(1, 1, 1, dtype=torch.bfloat16), 0.7)
    assert out.dtype == torch.bfloat16 and history.updates[0].dtype == torch.float32


@pytest.mark.parametrize("make", [lambda: SpanHistory(1), lambda: TokenHistory(1)])
def test_refreshes_nearer_than_the_spacing_count_as_one(make):
    history = make()
    for tau, value in ((0.9, 9.0), (0.8, 8.0), (0.79999, 8.5)):
        history.refresh(torch.full((1, 1, 1), value), tau, spacing=0.05)
    # a line through (0.9, 9) and (0.79999, 8.5)
    assert history.add_forecast(torch.zeros(1, 1, 1), 0.7).item() == pytest.approx(8.0, abs=1e-3)


@pytest.mark.parametrize("make", [lambda: SpanHistory(1), lambda: TokenHistory(1)])
def test_float16_saturates_instead_of_overflowing(make):
    history = make()
    history.refresh(torch.full((1, 1, 1), 1000.0), 0.9)
    history.refresh(torch.full((1, 1, 1), 2000.0), 0.8)
    assert history.add_forecast(torch.full((1, 1, 1), 63000.0, dtype=torch.float16), 0.7).item() == 65504.0
