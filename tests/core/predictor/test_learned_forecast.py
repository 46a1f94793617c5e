"""The learned forecast: hand-worked corrections, where the engine applies it, its file, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_dit import tiny_dit
from tiny_predictor import tiny_predictor
from toy import ToyModel

from tokencache_core.dit.run import DiTRun
from tokencache_core.engine.forecast import SpanHistory, forecast_terms
from tokencache_core.engine.session import open_session
from tokencache_core.predictor.file import PredictorFileError, read_trained_cache, save_trained_cache
from tokencache_core.predictor.learned_forecast import LearnedForecast, forecast_from_tensors
from tokencache_core.predictor.trained_parts import TrainedParts
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings
from tokencache_core.training.plan import TrainingPlan
from tokencache_core.training.trainer import Training


def history_of(updates: list[float], taus: list[float], order: int) -> SpanHistory:
    history = SpanHistory(order)
    for update, tau in zip(updates, taus):
        history.refresh(torch.full((1, 2, 3), update), tau)
    return history


def gains_of(module: LearnedForecast, *gains: float) -> LearnedForecast:
    """Constant gains, one a term, for all channels."""
    with torch.no_grad():
        module.gains.bias.copy_(torch.tensor(gains).repeat_interleave(module.out.out_features))
    return module.requires_grad_(False)


def test_terms_add_up_to_the_forecast_whatever_slot_they_are_kept_in():
    history = history_of([7.0, 1.0, 4.0, 9.0], [1.0, 0.8, 0.6, 0.4], order=2)  # the fourth has replaced the first
    taus, updates = history.newest_first()
    terms = forecast_terms(taus, updates, 0.3)
    assert taus == [0.4, 0.6, 0.8]
    assert terms[0].unique().item() == 9.0
    assert terms[1].unique().item() == pytest.approx(2.5)  # (9 - 4) / 0.2 * 0.1
    plain = history.add_forecast(torch.zeros(1, 2, 3), 0.3)
    assert torch.allclose(sum(terms), plain)


def test_terms_are_of_where_the_forecast_reaches():
    history = history_of([4.0, 9.0], [0.6, 0.4], order=1)
    history.reach = 2.0
    out = history.add_forecast(torch.zeros(1, 2, 3), 0.3, gains_of(LearnedForecast(3, 1, hidden=5), 0.0, 1.0))
    # the forecast, and its linear term once more
    assert torch.allclose(out, torch.full_like(out, 9.0 + 2 * 2.5 + 2 * 2.5))


def test_it_begins_as_the_plain_forecast():
    history = history_of([1.0, 4.0, 9.0], [0.8, 0.6, 0.4], order=2)
    x, module = torch.randn(1, 2, 3), LearnedForecast(3, 2, hidden=5)
    assert torch.equal(history.add_forecast(x, 0.3, module), history.add_forecast(x, 0.3))


def test_gains_scale_the_terms():
    history = history_of([4.0, 9.0], [0.6, 0.4], order=1)
    out = history.add_forecast(torch.zeros(1, 2, 3), 0.3, gains_of(LearnedForecast(3, 1, hidden=5), 0.1, -0.5))
    assert torch.allclose(out, torch.full_like(out, 9.0 + 2.5 + 0.1 * 9.0 - 0.5 * 2.5))


def test_a_term_that_is_not_there_yet_counts_as_zero():
    history = history_of([9.0], [0.4], order=2)
    out = history.add_forecast(torch.zeros(1, 2, 3), 0.3, gains_of(LearnedForecast(3, 2, hidden=5), 0.1, 5.0, 5.0))
    assert torch.allclose(out, torch.full_like(out, 9.9))


def test_what_does_not_move_is_not_corrected_by_the_network():
    module = LearnedForecast(3, 2, hidden=5)
    torch.nn.init.ones_(module.out.weight)
    still, moving = (
        history_of([4.0, 4.0, 4.0], [0.8, 0.6, 0.4], order=2),
        history_of([4.0, 5.0, 7.0], [0.8, 0.6, 0.4], order=2),
    )
    for history, corrected in ((still, False), (moving, True)):
        out = history.add_forecast(torch.ones(1, 2, 3), 0.3, module)
        assert (not torch.allclose(out, history.add_forecast(torch.ones(1, 2, 3), 0.3), atol=1e-4)) == corrected


@pytest.mark.parametrize(("run", "applies"), [((0, 1), True), ((0, 0), False), ((1, 1), False)])
def test_the_engine_applies_it_to_its_own_run_on_p_steps_alone(run, applies):
    toy = ToyModel(gains=(1.0, 2.0), power=1)
    learned = TrainedParts(forecasts={run: gains_of(LearnedForecast(2, 1, hidden=2), 1.0, 0.0)})
    session = open_session(
        CacheSettings(order=1, reach=1.0),
        ExplicitSchedule((0, 1)),
        sigmas=[0.8, 0.6, 0.4],
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=toy.streams,
        learned=learned,
    )
    outputs = [toy.run(session, tau).unique().item() for tau in (0.8, 0.6, 0.4)]
    assert outputs[:2] == pytest.approx([2.4, 1.8])
    assert outputs[2] == pytest.approx(1.2 + 1.8 if applies else 1.2)  # the gain adds the newest update once more


def test_it_is_kept_in_the_file(tmp_path):
    module = LearnedForecast(6, 2, hidden=5).requires_grad_(False)
    for weight in module.parameters():
        weight.copy_(torch.randn(weight.shape).half())
    file = tmp_path / "p.safetensors"
    settings = CacheSettings(order=2)
    save_trained_cache(tiny_predictor(settings=settings, repair=None, forecasts={(0, 2): module}), file)
    loaded = read_trained_cache(file)
    assert list(loaded.forecasts) == [(0, 2)]
    ours, theirs = module.state_dict(), loaded.forecasts[0, 2].state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    user = CacheSettings(cache_ratio=0.5, order=0, last_blocks=3, context="computed", reach=1.5, seed=9)
    assert loaded.apply_to(user) == replace(settings, seed=9)


@pytest.mark.parametrize(
    "change",
    [
        {"gains.weight": torch.zeros(10_000_000, 6)},
        {"into.bias": torch.zeros(4)},
        {"time.weight": None},
        {"more": torch.zeros(1)},
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(change):
    tensors = {
        name: tensor
        for name, tensor in {**LearnedForecast(6, 2, 5).state_dict(), **change}.items()
        if tensor is not None
    }
    with pytest.raises(ValueError, match="learned forecast"):
        forecast_from_tensors(tensors)


def test_a_file_with_a_damaged_forecast_is_refused(tmp_path):
    module = LearnedForecast(6, 2, hidden=5)
    module.into = torch.nn.Linear(7, 5)
    with pytest.raises(PredictorFileError, match="do not fit together"):
        save_trained_cache(tiny_predictor(forecasts={(0, 1): module}), tmp_path / "p.safetensors")


def test_a_forecast_of_more_blocks_than_the_model_has_is_refused():
    with pytest.raises(ValueError, match="for the blocks 0 to 5, but the model has 3"):
        TrainedParts(forecasts={(0, 5): LearnedForecast(6, 2, 5)}).check(tiny_dit().blocks)


def test_it_learns_without_any_block_computed():
    model, sigmas = tiny_dit(), simple_sigmas(10)

    def start(seed: int) -> DiTRun:
        noise = starting_noise((2, 4, 8, 8), 2 * seed, sigmas[0])
        return DiTRun(model, torch.arange(2), noise=noise, sigmas=sigmas, cfg=2.0, solver="ddim")

    plan = TrainingPlan(CacheSettings(order=1), forecast_hidden=16, learning_rate=3e-3)
    training = Training(plan, model, model.blocks, start)
    without = training.held_out(TrainedParts())
    assert training.held_out(training.learned()) == pytest.approx(without, rel=1e-5)
    for _ in range(8):
        training.step()
    learned = training.learned()
    assert learned.repair is None and list(learned.forecasts) == [(0, 2)]
    assert training.held_out(learned) < 0.95 * without
