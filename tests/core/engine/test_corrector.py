"""The corrector: hand-computed on straight lines and parabolas, then in cached runs of a DiT."""

from __future__ import annotations

import pytest
import torch
from tiny_dit import tiny_dit
from torch import Tensor

from tokencache_core.dit.run import DiTRun
from tokencache_core.dit.sampling import cached_sample, sample
from tokencache_core.engine.corrector import Corrector
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings

I_STEPS = ExplicitSchedule((0, 4, 7, 10))
SIGMAS = simple_sigmas(12)
LABELS = torch.tensor([0, 3])


def direction(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


def test_all_of_an_error_is_made_good_at_full_strength():
    """Order 0 held 1.0 while the truth was the line 1 + 2 (1 - tau): the step at 0.8 missed 0.4, and moved x by -2."""
    corrector = Corrector(1.0, order=0)
    assert corrector.corrected_i_step(1.0, -2.0, direction(1.0)).item() == 1.0
    corrector.add_p_step(0.8, -2.0, direction(1.0))
    assert corrector.corrected_i_step(0.6, -1.0, direction(1.8)).item() == pytest.approx(1.8 + 0.4 * 2)


def test_half_of_it_at_half_strength_and_each_error_only_once():
    corrector = Corrector(0.5, order=0)
    corrector.corrected_i_step(1.0, -2.0, direction(1.0))
    corrector.add_p_step(0.8, -2.0, direction(1.0))
    assert corrector.corrected_i_step(0.6, -1.0, direction(1.8)).item() == pytest.approx(1.8 + 0.4)
    assert corrector.corrected_i_step(0.5, -1.0, direction(7.0)).item() == 7.0


def test_less_of_it_where_some_tokens_were_computed():
    corrector = Corrector(1.0, order=0)
    corrector.corrected_i_step(1.0, -2.0, direction(1.0))
    corrector.add_p_step(0.8, -2.0, direction(1.0), reused=0.75)
    assert corrector.corrected_i_step(0.6, -1.0, direction(1.8)).item() == pytest.approx(1.8 + 0.75 * 0.4 * 2)


def test_a_forecast_that_was_right_is_left_alone():
    corrector = Corrector(1.0, order=1)
    for tau in (1.0, 0.8):
        corrector.corrected_i_step(tau, -1.0, direction(tau))
    corrector.add_p_step(0.7, -1.0, direction(0.7))
    assert corrector.corrected_i_step(0.6, -1.0, direction(0.6)).item() == pytest.approx(0.6)


def test_what_is_forgotten_is_not_made_good():
    corrector = Corrector(1.0, order=0)
    corrector.corrected_i_step(1.0, -2.0, direction(1.0))
    corrector.add_p_step(0.8, -2.0, direction(1.0))
    corrector.forget()
    assert corrector.corrected_i_step(0.6, -1.0, direction(1.5)).item() == 1.5


def run(settings: CacheSettings, solver: str = "ddim") -> Tensor:
    model = tiny_dit()
    noise = starting_noise((2, 4, 8, 8), 5, SIGMAS[0])
    return cached_sample(
        model, LABELS, noise=noise, sigmas=SIGMAS, cfg=2.0, solver=solver, settings=settings, schedule=I_STEPS
    )[0]


def corrected(solver: str = "ddim", **settings: object) -> bool:
    return not torch.equal(
        run(CacheSettings(**settings), solver), run(CacheSettings(corrector=0.0, **settings), solver)
    )


def test_it_works_where_p_steps_reuse_and_the_sampler_is_eulers():
    assert corrected() and corrected(last_blocks=1) and corrected(cache_ratio=0.5)
    assert not corrected(solver="dpmpp_2m")


def test_nothing_changes_at_ratio_0():
    noise = starting_noise((2, 4, 8, 8), 5, SIGMAS[0])
    assert torch.equal(
        run(CacheSettings(cache_ratio=0.0, corrector=1.0)),
        sample(tiny_dit(), LABELS, noise=noise, sigmas=SIGMAS, cfg=2.0),
    )


def test_an_evaluation_between_steps_or_going_back_is_no_step_of_eulers():
    model = tiny_dit()
    run = DiTRun(model, LABELS, noise=starting_noise((2, 4, 8, 8), 5, SIGMAS[0]), sigmas=SIGMAS, cfg=2.0, solver="ddim")
    session = run.open_session(CacheSettings(), I_STEPS)

    def evaluate(sigma: Tensor) -> bool:
        with session.evaluation(float(sigma)), run.cached(session), torch.no_grad():
            clean = run.denoise(run.noise, sigma)
        return session.corrected(run.noise, clean) is clean

    for step in range(4):
        evaluate(SIGMAS[step])
    assert session.corrector.p_steps
    evaluate((SIGMAS[3] + SIGMAS[4]) / 2)
    assert not session.corrector.p_steps and evaluate(SIGMAS[4])
    evaluate(SIGMAS[5])
    evaluate(SIGMAS[6])
    assert not evaluate(SIGMAS[7])
    evaluate(SIGMAS[8])
    evaluate(SIGMAS[8])
    assert not session.corrector.p_steps  # twice at one sigma: not Euler's
    evaluate(SIGMAS[9])
    evaluate(SIGMAS[2])
    assert not session.corrector.p_steps
    assert session.close() and session.corrector is None


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match="corrector must lie between 0"):
        CacheSettings(corrector=strength)
