"""Simulated runs: by hand on a record of three steps, and beside real runs of the reference DiT."""

from functools import partial
from math import inf, log10
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
from tokencache_core.schedules.place_climb import climbed, neighbours
from tokencache_core.schedules.run_record import RunRecord, RunRecorder, noise_of
from tokencache_core.schedules.run_simulator import TOGETHER, RunSimulator
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings

REFERENCE = "reference/emoji-dit.safetensors"


def record(directions: list[float], moves: list[float], taus: tuple[float, ...]) -> RunRecord:
    """Of one sample of one element."""
    return RunRecord(taus, np.array(moves), np.outer(directions, directions)[None])


BENT = record([4.0, 3.0, 1.0], [-1.0, -1.0, -1.0], (0.75, 0.5, 0.25))


@pytest.mark.parametrize(
    "order, reach, places, error",
    [
        (0, 1.0, (0, 1), 2.0),  # step 2 holds 3 where it is 1, and moves x by -1
        (1, 1.0, (0, 1), 1.0),  # the line through 4 and 3 is 2 there
        (1, 2.0, (0, 1), 0.0),  # and, taken twice as far, 1
        (1, 1.0, (0,), 4.0),  # 4 for 3, and 4 for 1: both lead astray the same way
        (0, 1.0, (0, 2), 1.0),  # 4 for 3
    ],
)
def test_the_error_of_p_steps_is_what_forecasts_miss_times_the_move(order, reach, places, error):
    simulator = RunSimulator(BENT, order=order, reach=reach, corrector=0.0, dampings=(inf,))
    assert simulator.error_db(places) == pytest.approx(20 * log10(max(error, 1e-6)))


def test_an_i_step_takes_back_its_share_of_what_it_shows_to_have_been_wrong():
    # at step 1 the line through 4 (step 0) and 1 (step 2) is 2.5, and 4 was forecast: 1.5 too much, of an error of 1
    simulator = RunSimulator(BENT, order=0, reach=1.0, corrector=0.5, dampings=(inf,))
    assert simulator.error_db((0, 2)) == pytest.approx(20 * log10(abs(1 - 0.5 * 1.5)))


def test_errors_of_two_windows_cancel_in_part():
    swaying = record([2.0, 3.0, 2.0, 1.0], [-1.0] * 4, (0.8, 0.6, 0.4, 0.2))  # holding 2 is wrong by -1, and then by 1
    simulator = RunSimulator(swaying, order=0, reach=1.0, corrector=0.0, dampings=(inf,))
    assert simulator.error_db((0, 2)) == pytest.approx(10 * log10((1 - TOGETHER) * (1 + 1)))
    assert simulator.error_db((0,)) <= -120  # within one window they do


def test_errors_made_where_the_noise_is_strong_fade():
    noisy = record([1.0, 2.0], [-1.0, -3.0], (0.9, 0.5))
    simulated = partial(RunSimulator, noisy, order=0, reach=1.0, corrector=0.0)
    lasting, fading, both = (simulated(dampings=each).error_db((0,)) for each in ((inf,), (0.1,), (inf, 0.1)))
    assert fading < lasting - 20
    assert both == pytest.approx((lasting + fading) / 2)


def test_a_run_without_p_steps_is_no_further_than_can_be_told():
    assert RunSimulator(BENT, order=2, reach=1.0, corrector=0.3).error_db((0, 1, 2)) <= -120


def test_neighbours_are_all_lists_of_as_many_places_that_one_move_makes():
    found = set(neighbours((0, 2), 4))
    assert found == {(0, 1), (0, 3)}
    assert all(len(set(places)) == 3 and places[0] == 0 and max(places) < 6 for places in neighbours((0, 2, 5), 6))


def test_a_climb_ends_where_no_move_helps():
    def errors(candidates):
        return np.array([abs(sum(places) - 11) for places in candidates], dtype=float)

    places, error = climbed((0, 1, 2), 8, errors)
    assert sum(places) == 11 and error == 0


def test_the_recorder_keeps_each_step_once_and_tells_what_is_missing():
    recorder = RunRecorder((2.0, 1.0, 0.0), scale=lambda sigma: 0.5 * (sigma == 1.0))
    recorder.saw(torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 0.0]]), 2.0)
    recorder.saw(torch.zeros(1, 2), torch.ones(1, 2), 1.5)  # between the steps
    assert not recorder.complete
    with pytest.raises(ValueError, match=r"steps \[1\]"):
        recorder.record(lambda sigma: sigma / 4)
    recorder.saw(torch.tensor([[0.0, 6.0]]), torch.tensor([[1.0, 3.0]]), 1.0)
    found = recorder.record(lambda sigma: sigma / 4)
    # directions (2, 0) and (-1, 3), of which the network was given (0, 0) and (0, 3)
    assert found.taus == (0.5, 0.25) and found.products.tolist() == [[[2.0, -1.0], [-1.0, 0.5]]]
    # after the first step x = signal + sigma * noise has sigma 1, and the noise is noise_of(0.25) times as strong as
    # the signal
    assert found.moves.tolist() == [pytest.approx(-noise_of(0.25)), -1.0]


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
    simulator = RunSimulator(
        recorder.record(run.noise_time), order=2, reach=settings.reach, corrector=settings.corrector
    )
    random = Random(0)
    tried = [(0, *sorted(random.sample(range(1, 10), 4))) for _ in range(14)]
    real = [
        float(capped_psnr(sample_cached(run, settings, ExplicitSchedule(places))[0], full).mean()) for places in tried
    ]
    ranks = [np.argsort(np.argsort(values)) for values in (real, -simulator.errors_db(tried))]
    assert np.corrcoef(*ranks)[0, 1] > 0.6
