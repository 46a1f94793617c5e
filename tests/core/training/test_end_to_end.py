"""The gradient of a whole cached run, against finite differences of the run that inference makes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_training import PLAN, SETTINGS, starter
from tiny_dit import tiny_dit

from tokencache_core.dit.sampling import cached_sample
from tokencache_core.predictor.learned_forecast import LearnedForecast
from tokencache_core.predictor.trained_parts import TrainedParts
from tokencache_core.runs.run import sample_plain
from tokencache_core.schedules.schedule import UniformSchedule
from tokencache_core.settings import CacheSettings
from tokencache_core.training.activation_checkpointing import checkpointed
from tokencache_core.training.run_loss import follow_to_the_end
from tokencache_core.training.trainer import Training

REUSES_ALL = replace(SETTINGS, last_blocks=0)


def followed(model, run, plain, forecast, learn, whole=nullcontext, settings=REUSES_ALL) -> list[float]:
    session = run.open_session(settings, UniformSchedule(4), learned=TrainedParts(forecasts={(0, 2): forecast}))
    return follow_to_the_end(run, session, plain, learn, nullcontext, whole)


@pytest.fixture
def parts():
    model = tiny_dit().double().requires_grad_(False)
    model.dtype = torch.float64
    run = starter(model)(0)
    torch.manual_seed(0)
    forecast = LearnedForecast(model.config.width, 1, 4).requires_grad_(True)
    with torch.no_grad():
        for weight in forecast.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return model, run, sample_plain(run), forecast


def test_the_loss_is_how_far_the_inference_run_ends_from_the_plain_one(parts):
    model, run, plain, forecast = parts
    losses = []
    (off,) = followed(model, run, plain, forecast, losses.append)
    learned = TrainedParts(forecasts={(0, 2): forecast})
    samples, _ = cached_sample(
        model,
        torch.arange(2),
        noise=run.noise,
        sigmas=run.sigmas,
        cfg=2.0,
        settings=REUSES_ALL,
        schedule=UniformSchedule(4),
        learned=learned,
    )
    apart = (samples - plain.end).flatten(1).square().mean(dim=1)
    assert off == pytest.approx(apart.sqrt().mean().item(), rel=1e-5)
    assert losses[0].item() == pytest.approx(0.5 * apart.log().mean().item(), rel=1e-5)
    assert torch.equal(plain.end, run.sample())  # the last step goes all the way


def test_its_gradient_is_that_of_the_whole_run(parts):
    """P-steps before the last I-step count through the I-steps and the corrector after them."""
    model, run, plain, forecast = parts
    gradients, losses = [], []

    def learn(loss):
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, [forecast.gains.bias])[0])

    followed(model, run, plain, forecast, learn)
    direction = gradients[0] / gradients[0].norm()
    step = 1e-3
    for sign in (1, -1):
        with torch.no_grad():
            forecast.gains.bias.add_(sign * step * direction)
        followed(model, run, plain, forecast, lambda loss: losses.append(loss.item()))
        with torch.no_grad():
            forecast.gains.bias.sub_(sign * step * direction)
    assert (losses[1] - losses[2]) / (2 * step) == pytest.approx(gradients[0].norm().item(), rel=0.02)


def test_a_forecast_at_the_very_time_of_a_refresh_has_a_gradient():
    """Solvers come back to a time, and coarse schedules round to it: the terms of higher order are 0 there."""
    forecast, update = LearnedForecast(8, 2, 4).requires_grad_(True), torch.randn(1, 3, 8, requires_grad=True)
    forecast([update, 0 * update, 0 * update], [0.5, 0.6, 0.7], 0.5).sum().backward()
    assert torch.isfinite(update.grad).all() and all(
        torch.isfinite(weight.grad).all() for weight in forecast.parameters()
    )


def test_checkpointed_i_steps_have_the_same_gradient_and_keep_less(parts):
    model, run, plain, forecast = parts
    gradients, kept = [], []

    def keep(tensor):
        kept[-1] += tensor.nbytes
        return tensor

    for whole in (nullcontext, partial(checkpointed, model.blocks)):
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            followed(
                model,
                run,
                plain,
                forecast,
                lambda loss: gradients.append(torch.autograd.grad(loss, list(forecast.parameters()))),
                whole,
            )
    assert all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(*gradients))
    assert kept[1] < 0.5 * kept[0]
    assert all("forward" not in block.__dict__ for block in model.blocks)


def test_an_error_in_a_checkpointed_block_leaves_nothing_behind():
    """As after an interruption: what is computed next, while the error is still held, is not checkpointed."""

    class Interrupted(torch.nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    block, x = Interrupted(), torch.ones(2, requires_grad=True)
    with pytest.raises(KeyboardInterrupt) as held, checkpointed([block]):
        block(x)
    (x * x).sum().backward()
    assert held.value is not None and x.grad.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    "choices",
    [
        {"forecast_hidden": 8},
        {"forecast_hidden": 0, "settings": replace(SETTINGS, last_blocks=1)},
        {"settings": CacheSettings(cache_ratio=0.5, order=1, last_blocks=1), "predictor": "light"},
        {
            "settings": CacheSettings(cache_ratio=0.5, order=1, last_blocks=1),
            "predictor": "block",
            "soft": True,
            "every_step": True,
        },
    ],
    ids=["forecast", "LoRA", "light predictor and LoRA", "block predictor and LoRA"],
)
def test_every_part_learns_from_whole_runs(choices):
    model = tiny_dit()
    state = Training(replace(PLAN, loss="run", **choices), model, model.blocks, starter(model))
    before = [weight.detach().clone() for weight in state.parameters]
    without = state.held_out(TrainedParts())
    for _ in range(6):
        state.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, state.parameters)]
    assert all(changed)
    assert state.finish().drift < without
    state.close()
