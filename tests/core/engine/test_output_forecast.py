"""A model's output forecast as a whole: by hand where it is a polynomial, and on the reference DiT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy import ToyModel
from toy_output import ToyRun, toy_output_run

from tokencache_core.dit.checkpoint import load_dit
from tokencache_core.dit.sampled import SampledDiT
from tokencache_core.engine import output_forecast
from tokencache_core.engine.output_forecast import forecast_output
from tokencache_core.engine.session import open_session
from tokencache_core.likeness.metrics import psnr
from tokencache_core.runs.cached_sampling import sample_cached
from tokencache_core.runs.output_run import OutputRun
from tokencache_core.runs.sampled_model import RandomRuns
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.schedule import CountSchedule, ExplicitSchedule
from tokencache_core.settings import CacheSettings

REFERENCE = Path(__file__).resolve().parents[3] / "reference" / "emoji-dit.safetensors"
SIGMAS = [1.0, 0.8, 0.6, 0.4, 0.2]


def predictions(i_steps: tuple[int, ...], **settings: float) -> ToyRun:
    """Of a network that adds 3 sigma to its input."""
    return toy_output_run(i_steps, lambda sigma: 3 * sigma, SIGMAS, **settings)


def test_what_a_network_adds_to_its_input_is_forecast_and_the_input_is_its_own():
    run = predictions((0, 1))
    assert run.added == pytest.approx([3 * sigma for sigma in SIGMAS], abs=1e-3)
    assert run.calls == 2 and run.kinds == list("IIPPP")


def test_held_it_stays_what_it_was():
    assert predictions((0, 1), order=0).added == pytest.approx([3.0, 2.4, 2.4, 2.4, 2.4], abs=1e-3)


def test_at_ratio_zero_every_step_is_computed():
    assert predictions((0,), cache_ratio=0.0).calls == 5


def test_a_clean_latent_is_computed_and_is_no_node_of_forecasts():
    session = open_session(
        CacheSettings(),
        ExplicitSchedule((0,)),
        sigmas=SIGMAS,
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=output_forecast.STREAMS,
    )
    x, calls = torch.ones(1, 1, 2, 2), []
    for sigma in (1.0, 0.0, 0.8):
        with session.evaluation(sigma, x):
            level = torch.full((1,), sigma)
            clean = forecast_output(session, x, level, x, lambda: calls.append(1) or x, key="rows")
    assert clean.isfinite().all() and len(calls) == 3  # 0.8 goes back up
    assert sum(step.misses for step in session.close().steps) == 0


def test_after_falling_back_the_shares_computed_are_those_of_the_whole_run():
    model, x = ToyModel((1.0, 1.0, 1.0)), torch.zeros(1, 1, 2, 2)
    session = open_session(
        CacheSettings(),
        ExplicitSchedule((0, 3)),
        sigmas=SIGMAS,
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=model.streams,
    )
    model.run(session, SIGMAS[0])
    for sigma in SIGMAS[1:]:
        with session.evaluation(sigma) as evaluation:
            if sigma == SIGMAS[1]:  # something has failed in the call of the network
                counts = evaluation.counts()
                evaluation.misses += 1
                output_forecast.fall_back(session, counts, "why")
            forecast_output(session, x, torch.full((1,), sigma), x, lambda: x, key="rows")
    report = session.close()
    assert [step.kind for step in report.steps] == list("IIPIP") and report.notes == ("why",)
    assert [step.available for step in report.steps] == [3 * 4] * 5 and report.compute == 3 / 5
    assert not any(step.misses for step in report.steps) and report.block_counts.shape == (5, 3)


@torch.no_grad()
def test_on_the_reference_dit_it_is_nearer_than_as_many_whole_steps():
    model = SampledDiT(load_dit(REFERENCE))

    def run(steps: int):
        schedule = SigmaSchedule("flow", 3.0)
        return RandomRuns(model, [2, 9], [2, 9], batch=2, steps=steps, cfg=4.0, solver="ddim", schedule=schedule)(5)

    full = run(20).sample()
    cached, report = sample_cached(OutputRun(run(20)), CacheSettings(order=1), CountSchedule(10))
    assert report.compute == 0.5
    assert psnr(cached, full).mean() > psnr(run(10).sample(), full).mean() + 3
