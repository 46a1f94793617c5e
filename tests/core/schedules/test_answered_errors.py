"""Errors that are answered: by hand, on records of a few steps, and beside cached runs of a network that answers as the
simulation assumes.
"""

from collections.abc import Callable
from math import log10

import numpy as np
import pytest
import torch
from torch import Tensor

from tokencache_core.runs.cached_sampling import sample_cached
from tokencache_core.runs.output_run import OutputRun
from tokencache_core.sampling.noise_time import noise_time, unit_variance
from tokencache_core.sampling.samplers import SOLVERS
from tokencache_core.schedules.answered_errors import SPREAD, AnsweredErrors
from tokencache_core.schedules.run_record import RunRecord, RunRecorder
from tokencache_core.schedules.run_simulator import USUAL_FADING
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings


def simulator(added: list[float], answer: float = 0.0, **settings: float | bool) -> AnsweredErrors:
    """Of one sample of one element, sampled at sigmas that fall to 0 by 1 in each step, whose network is given nothing
    of x, and answers to an error of 1 in x by `answer`.
    """
    steps = len(added)
    record = RunRecord(
        tuple(np.linspace(0.8, 0.2, steps)),
        tuple(map(float, range(steps, -1, -1))),
        (0.0,) * steps,
        np.outer(added, added)[None],
    )
    found = AnsweredErrors(record, CacheSettings(**{"reach": 1.0, "corrector": 0.0, "fitted": False, **settings}))
    found.answers = np.full(steps, answer)
    return found


def decibels(error: float, added: list[float]) -> float:
    """Of a squared error. Samples are scaled to a mean square of 1."""
    return 10 * log10(error / np.mean(np.square(added)))


@pytest.mark.parametrize("order, places, error", [(0, (0, 1), 2.0), (1, (0, 1), 1.0), (0, (0,), 4.0), (0, (0, 2), 1.0)])
def test_in_a_network_that_does_not_answer_p_steps_err_by_what_forecasts_miss(order, places, error):
    bent = [4.0, 3.0, 1.0]
    assert simulator(bent, order=order).errors_db([places])[0] == pytest.approx(decibels(error**2, bent))


def test_an_i_step_takes_back_its_share_of_what_it_shows_to_have_been_wrong():
    # at step 1 the line through 4 (step 0) and 1 (step 2) is 2.5, and 4 was forecast: 1.5 too much, of an error of 1
    bent = [4.0, 3.0, 1.0]
    found = simulator(bent, order=0, corrector=0.5).errors_db([(0, 2)])[0]
    assert found == pytest.approx(decibels((1 - 0.5 * 1.5) ** 2, bent))


def test_an_i_step_takes_back_what_it_answers():
    # step 1 holds 4 for 3, which makes x 1 too small; step 2 moves x by -1 times 0.5 less
    bent = [4.0, 3.0, 1.0]
    assert simulator(bent, answer=0.5, order=0).errors_db([(0, 2)])[0] == pytest.approx(decibels(0.5**2, bent))


def test_what_an_i_step_answers_misleads_later_forecasts():
    # as above, after step 2 x is 0.5 too small; its update is 0.5 too small as well, so that the line from step 0
    # to it leads to 0.25 at step 3, where it is 1: x becomes 0.75 too large there
    straight = [4.0, 3.0, 2.0, 1.0]
    together, apart = (-0.5 + 0.75) ** 2, 0.5**2 + 0.75**2
    found = simulator(straight, answer=0.5).errors_db([(0, 2)])[0]
    assert found == pytest.approx(decibels((together + apart) / 2, straight), abs=1e-6)


def test_the_share_of_curvature_is_found_out_as_in_a_run():
    parabola = [float(step**2) for step in range(7)]
    places = [(0, 1, 2, 3, 5)]
    assert simulator(parabola, fitted=True).errors_db(places)[0] < -100
    assert simulator(parabola).errors_db(places)[0] > -20


def test_runs_do_not_depend_on_those_beside_them():
    together = simulator([4.0, 3.0, 1.0, 2.0], answer=0.3, corrector=0.3, fitted=True)
    places = [(0,), (0, 1), (0, 2), (0, 1, 3), (0, 1, 2, 3)]
    assert together.errors_db(places).tolist() == pytest.approx([together.errors_db([each])[0] for each in places])


class GaussianRun:
    """A run of Euler's method with the best denoiser of Gaussian data of standard deviation SPREAD."""

    euler, fading, images = True, USUAL_FADING, 2

    def __init__(self, sigmas: list[float]) -> None:
        self.sigmas = torch.tensor(sigmas, dtype=torch.float64)
        self.noise = sigmas[0] * torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()

    def noise_time(self, sigma: float) -> float:
        return noise_time(sigma)

    def input_scale(self, sigma: float) -> float:
        return unit_variance(sigma)

    def sample(self, around: Callable = lambda denoise: denoise) -> Tensor:
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            return x / (1 + (sigma / SPREAD) ** 2)

        return SOLVERS["ddim"](around(denoise), self.noise, self.sigmas)


@pytest.mark.parametrize(
    "order, corrector, fitted, within",
    [
        (0, 0.0, False, 0.05),
        (1, 0.0, False, 0.05),
        (1, 0.0, True, 0.05),
        (2, 0.0, False, 0.05),
        (1, 0.3, True, 2.0),  # the engine's corrector interpolates directions, of which the record has only a part
        (2, 0.3, False, 2.0),
    ],
)
def test_it_is_what_the_engine_does_where_the_network_answers_as_assumed(order, corrector, fitted, within):
    run = GaussianRun([40.0, 20.0, 10.0, 6.0, 4.0, 3.0, 2.0, 1.2, 0.6, 0.2, 0.0])
    recorder = RunRecorder(run.sigmas.tolist(), run.input_scale)
    full, record = run.sample(recorder.around), recorder.record(noise_time)
    settings = CacheSettings(order=order, reach=1.08, corrector=corrector, fitted=fitted)
    simulated = AnsweredErrors(record, settings, together=1.0)
    size = np.einsum("bss->b", record.products).mean() / record.steps
    for places in [(0, 1, 2, 3, 5, 7, 9), (0, 3, 6, 9), (0, 1, 2, 4, 5, 8)]:
        cached = sample_cached(OutputRun(run), settings, ExplicitSchedule(places))[0]
        error = float((cached - full).square().mean()) / size
        assert simulated.errors_db([places])[0] == pytest.approx(10 * log10(error), abs=within)
