"""The fitted term, hand-computed on parabolas, then in cached runs."""

from __future__ import annotations

import pytest
import torch
from toy_output import toy_output_run

from tokencache_core.cli.options import sampled_model
from tokencache_core.engine.fitted_term import FittedTerm, term_weights
from tokencache_core.engine.forecast import SpanHistory
from tokencache_core.likeness.metrics import capped_psnr
from tokencache_core.runs.cached_sampling import sample_cached
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_core.settings import CacheSettings

SIGMAS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def squares(sigma: float) -> float:
    return 50 * sigma**2


def fitted_to(*values: tuple[float, float], reach: float = 1.0) -> FittedTerm:
    """Of order 1, after I-steps at these taus that added these values."""
    fitted = FittedTerm(1, reach)
    for tau, value in values:
        fitted.add_i_step(tau, torch.tensor([[value, 0.0]]), spacing=0.01)
    return fitted


def test_the_term_leads_from_the_line_to_the_parabola():
    assert term_weights([0.3, 0.4, 0.5], 1, 0.2) == pytest.approx([1, -2, 1])  # 3, -3, 1 less 2, -1, 0


# squares at 3, 2 and 1 continue to -2 on a line and to 0 on the parabola
@pytest.mark.parametrize(
    ("next_value", "share"), [(-2.0, 0.0), (0.0, 1.0), (-1.0, 0.5), (-1.5, 0.25), (-5.0, 0.0), (9.0, 1.0)]
)
def test_the_share_is_where_the_next_i_step_lies_between_line_and_parabola(next_value, share):
    assert fitted_to((3, 9), (2, 4), (1, 1), (0, next_value)).share == pytest.approx(share)


def test_it_is_measured_as_far_out_as_forecasts_reach():
    """At 0, forecasts of a reach of 2 are evaluated at -1: -5 on the line, 1 on the parabola."""
    assert fitted_to((3, 9), (2, 4), (1, 1), (0, -2.0), reach=2.0).share == pytest.approx(0.5)


def test_nothing_is_taken_before_an_i_step_has_shown_anything_or_where_there_is_no_curvature():
    assert fitted_to((3, 9), (2, 4), (1, 1)).share == 0
    assert fitted_to((3, 3), (2, 2), (1, 1), (0, 7)).share == 0


def test_each_i_step_counts_half_as_much_as_the_one_after_it():
    """The first says 1/2. The second continues 4, 1, -1 at -1: to -3 on the line, to -2 on the parabola; -2 says 1."""
    fitted = fitted_to((3, 9), (2, 4), (1, 1), (0, -1), (-1, -2))
    along = 0.5 * 2 / 1 + 1 / 1  # error times term, over the error's square
    length = 0.5 * 4 / 1 + 1 / 1  # the term's square, likewise
    assert fitted.share == pytest.approx(along / length)


def test_a_second_evaluation_at_one_step_replaces_the_first_and_a_risen_sigma_begins_anew():
    assert fitted_to((3, 9), (2, 4), (1, 7), (1, 1), (0, -1)).share == pytest.approx(0.5)
    assert fitted_to((3, 9), (2, 4), (3, 5), (2, 4), (1, 1)).share == 0


@pytest.mark.parametrize(("share", "expected"), [(0.0, -2.0), (0.5, -1.0), (1.0, 0.0)])
def test_forecasts_take_the_share_of_the_term(share, expected):
    fitted = FittedTerm(1, 1.0)
    history = SpanHistory(1, fitted=fitted)
    for tau in (4.0, 3.0, 2.0, 1.0):
        history.refresh(torch.full((1, 1, 1), tau**2), tau)
    fitted.share = share
    assert history.add_forecast(torch.zeros(1, 1, 1), 0.0).item() == pytest.approx(expected, abs=1e-5)


def test_a_run_finds_out_that_its_network_follows_a_parabola():
    added = toy_output_run((0, 1, 2, 3), squares, SIGMAS).added
    assert added == pytest.approx([50, 40.5, 32, 24.5, 18, 12.5], abs=1e-2)


def test_unless_it_is_told_to_follow_a_line():
    added = toy_output_run((0, 1, 2, 3), squares, SIGMAS, fitted=False).added
    assert added[-2:] == pytest.approx([24.5 - 7.5, 24.5 - 15], abs=1e-2)
    added = toy_output_run((0, 1, 2, 3), squares, SIGMAS, order=2).added
    assert added[-2:] == pytest.approx([18, 12.5], abs=1e-2)


@pytest.mark.slow
@torch.no_grad()
def test_on_the_video_model_whose_updates_bend_runs_come_much_closer():
    model = sampled_model("reference/emoji-clips.safetensors", torch.device("cpu"))
    sigmas = model.sigmas(SigmaSchedule(), 20)
    noise = model.starting_noise(1, 42, sigmas)
    run = model.run(model.conditions("monkey face stays"), noise=noise, sigmas=sigmas, cfg=3.0, solver="ddim")
    full = run.sample()
    fitted, lines = (
        float(capped_psnr(sample_cached(run, CacheSettings(fitted=fits), AutomaticSchedule())[0], full))
        for fits in (True, False)
    )
    assert fitted >= lines + 3
