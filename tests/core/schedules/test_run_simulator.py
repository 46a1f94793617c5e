"""Simulated runs, beside real runs of the reference DiT."""

from random import Random

import numpy as np
import pytest
import torch

from tokencache_core.cli.options import model_and_names
from tokencache_core.dit.run import DiTRun
from tokencache_core.likeness.metrics import capped_psnr
from tokencache_core.runs.cached_sampling import sample_cached
from tokencache_core.sampling.noise_schedule import train_sigmas
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.known_models import known_records
from tokencache_core.schedules.run_record import RunRecorder
from tokencache_core.schedules.run_simulator import Fading, RunSimulator
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings

REFERENCE = "reference/emoji-dit.safetensors"


@pytest.mark.parametrize("answered", [0.0, 0.25, 1.0])
def test_both_ways_of_simulating_have_their_weight(answered):
    record = known_records((0.9, 0.7, 0.5, 0.3, 0.1))[0]
    fading = Fading((4.0,), answered)
    simulator = RunSimulator(record, CacheSettings(order=1, reach=1.0, corrector=0.3, fitted=True), fading)
    places = [(0, 2, 4), (0, 1, 3)]
    expected = (1 - answered) * simulator.fading.errors_db(places) + answered * simulator.answered.errors_db(places)
    assert simulator.errors_db(places).tolist() == pytest.approx(expected.tolist())
    assert simulator.error_db(places[1]) == pytest.approx(expected[1])


@pytest.mark.slow
@torch.no_grad()
def test_simulated_and_real_runs_rank_places_alike():
    """Rank correlation (Spearman) over random places, on a flow schedule of shift 3."""
    model, _ = model_and_names(REFERENCE, torch.device("cpu"))
    flow = torch.linspace(1, 0, 11)
    flow = 3 * flow / (1 + 2 * flow)
    sigmas = (flow / (1 - flow)).clamp(max=float(train_sigmas()[-1]))
    noise = starting_noise((2, 3, 32, 32), 5, sigmas[0])
    run = DiTRun(model, torch.tensor([3, 500]), noise=noise, sigmas=sigmas, cfg=4.0, solver="ddim")
    recorder, settings = RunRecorder(sigmas.tolist(), run.input_scale), CacheSettings()
    full = run.sample(recorder.around)
    simulator = RunSimulator(recorder.record(run.noise_time), settings)
    random = Random(0)
    tried = [(0, *sorted(random.sample(range(1, 10), 4))) for _ in range(14)]
    real = [
        float(capped_psnr(sample_cached(run, settings, ExplicitSchedule(places))[0], full).mean()) for places in tried
    ]
    ranks = [np.argsort(np.argsort(values)) for values in (real, -simulator.errors_db(tried))]
    assert np.corrcoef(*ranks)[0, 1] > 0.6
