"""The default on the reference DiT: never worse than as many full steps, which compute as much."""

import pytest
import torch

from tokencache_core.cli.options import model_and_names
from tokencache_core.dit.run import DiTRun
from tokencache_core.likeness.metrics import capped_psnr
from tokencache_core.runs.cached_sampling import sample_cached
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_core.settings import CacheSettings

FLOW = SigmaSchedule("flow", 3.0)
RUNS = [
    (schedule, steps)
    for steps in (4, 6, 8, 10, 12, 20)
    for schedule in (SigmaSchedule(), FLOW, SigmaSchedule("karras"))
] + [(FLOW, 50)]


@pytest.fixture(scope="module")
def model():
    return model_and_names("reference/emoji-dit.safetensors", torch.device("cpu"))[0]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("schedule", "steps"), RUNS, ids=str)
def test_the_default_is_no_worse_than_as_many_whole_steps(model, schedule: SigmaSchedule, steps: int):
    labels = torch.tensor([7, 1147])
    noise = starting_noise((2, 3, 32, 32), 4_000_000, schedule.sigmas(steps)[0])

    def run(steps: int) -> DiTRun:
        return DiTRun(model, labels, noise=noise, sigmas=schedule.sigmas(steps), cfg=4.0, solver="ddim")

    full = run(steps).sample()
    cached, report = sample_cached(run(steps), CacheSettings(), AutomaticSchedule())
    whole = sum(step.kind == "I" for step in report.steps)
    if whole == steps:  # nothing is forecast, and nothing can be lost
        assert torch.equal(cached, full)
        return
    assert report.compute == pytest.approx(whole / steps)
    assert float(capped_psnr(cached, full).mean()) >= float(capped_psnr(run(whole).sample(), full).mean())
