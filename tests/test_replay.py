"""Recorded runs: a replay is what following the plain run would be, and teaches at a part of its cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_dit import tiny_dit

from tokencache_core.dit_run import DiTRun
from tokencache_core.distill import Drift
from tokencache_core.learned import Learned
from tokencache_core.learned_forecast import LearnedForecast
from tokencache_core.noise_schedule import simple_sigmas
from tokencache_core.replay import record, replay
from tokencache_core.sampling import starting_noise
from tokencache_core.schedule import UniformSchedule
from tokencache_core.settings import CacheSettings
from tokencache_core.training import Training, TrainingPlan
from tokencache_core.training_state import load_state, save_state

SETTINGS = CacheSettings(order=1)
PLAN = TrainingPlan(SETTINGS, forecast_hidden=8, learning_rate=3e-3)
SIGMAS = simple_sigmas(10)


def start(model, seed: int = 0) -> DiTRun:
    noise = starting_noise((2, 4, 8, 8), 2 * seed, SIGMAS[0])
    return DiTRun(model, torch.arange(2), noise=noise, sigmas=SIGMAS, cfg=2.0, solver="ddim")


def drifts(run: DiTRun, schedule: UniformSchedule) -> list[float]:
    """What a replay should give, the long way: the cache asked at the states of the plain run."""
    session, drift, found = run.open_session(SETTINGS, schedule), Drift(SIGMAS), []

    def around(denoise):
        def asked(x, sigma):
            plain = denoise(x, sigma)
            with session.evaluation(float(sigma)) as evaluation, run.cached(session):
                cached = denoise(x, sigma)
            if evaluation.computes_all:
                found.append(drift.settle())
            else:
                drift.add(float(sigma), cached - plain)
            return plain
        return asked

    with torch.no_grad():
        run.sample(around)
    return [float(each) for each in (*found, drift.settle()) if each is not None]


@pytest.mark.parametrize("interval", [2, 4])
def test_a_replay_is_the_cache_asked_at_the_plain_states(interval):
    model = tiny_dit()
    recording, learned = record(start(model), SETTINGS), []
    forecasts = {(0, 2): LearnedForecast(64, 1, 8)}
    found = replay(recording, UniformSchedule(interval), Learned(forecasts=forecasts), learned.append)
    assert found == pytest.approx(drifts(start(model), UniformSchedule(interval)), rel=2e-2)   # updates are kept in float16
    assert len(learned) == len(found) and all(loss.requires_grad for loss in learned)


def test_no_block_runs_in_a_replay():
    model, calls = tiny_dit(), []
    recording = record(start(model), SETTINGS)
    for block in model.blocks:
        block.attn.register_forward_hook(lambda *_: calls.append(1))
    replay(recording, UniformSchedule(4), Learned(forecasts={(0, 2): LearnedForecast(64, 1, 8)}), lambda loss: None)
    assert not calls


def test_runs_that_compute_tokens_cannot_be_recorded():
    settings = CacheSettings(cache_ratio=0.5, order=1, shares="uniform")
    with pytest.raises(ValueError, match="compute no token on P-steps"):
        record(start(tiny_dit()), settings)


def training_of(model, **changes) -> Training:
    return Training(replace(PLAN, **changes), model, model.blocks, lambda seed: start(model, seed))


def test_the_pool_grows_until_its_memory_is_full():
    training = training_of(tiny_dit())
    for _ in range(3):
        training.step()
    assert sorted(training.recordings) == [0, 1, 2]
    room = 2.5 * training.recordings[0].memory_bytes / 2**30
    training = training_of(tiny_dit(), recording_gib=room)
    for _ in range(3):
        training.step()
    assert sorted(training.recordings) == [0, 1]


def test_resuming_is_exact(tmp_path):
    straight, first = training_of(tiny_dit()), training_of(tiny_dit())
    for _ in range(3):
        straight.step()
    first.step(), first.step()
    save_state(first, tmp_path / "s.training")
    resumed = training_of(tiny_dit())
    load_state(resumed, tmp_path / "s.training")
    resumed.step()
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters + straight.average, resumed.parameters + resumed.average))
    assert straight.log[-1].loss == resumed.log[-1].loss
