"""The curves of sigmas: as the real host has them, for every step count, and what is refused."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import pytest
import torch
from bench_rows import PROTOCOL, of_rows, ours
from comfy.model_sampling import ModelSamplingDiscreteFlow
from host_dit import CFG, decibels, folder, label, load, noise_for  # noqa: F401
from tiny_dit import tiny_dit

from tokencache_core.bench.output import describe_protocol
from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.dit.checkpoint import load_dit
from tokencache_core.dit.sampling import sample
from tokencache_core.sampling.noise_schedule import train_sigmas
from tokencache_core.sampling.noise_time import noise_time
from tokencache_core.sampling.sigma_schedule import SCHEDULES, SigmaSchedule, flow_sigmas

LARGEST = float(train_sigmas()[-1])
HOST_NAMES = {"ddpm": "simple"} | {name: name for name in SCHEDULES if name not in ("ddpm", "flow")}
COUNTS = (3, 7, 8, 20, 25, 50, 117)
EVERY = [SigmaSchedule(name) for name in SCHEDULES] + [SigmaSchedule("flow", shift) for shift in (0.5, 3.0, 30.0)]


@pytest.mark.parametrize("name", HOST_NAMES)
def test_curves_are_those_of_the_host(folder, name):
    sampling = load("pixels.safetensors").get_model_object("model_sampling")
    for steps in COUNTS:
        theirs = comfy.samplers.calculate_sigmas(sampling, HOST_NAMES[name], steps)
        torch.testing.assert_close(SigmaSchedule(name).sigmas(steps), theirs, rtol=2e-5, atol=0)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0, 6.5])
def test_a_flow_schedule_is_that_of_the_hosts_flow_models_below_its_first_sigma(shift):
    sampling = ModelSamplingDiscreteFlow()
    sampling.set_parameters(shift=shift)
    for steps in COUNTS:
        noise_share = comfy.samplers.calculate_sigmas(sampling, "simple", steps).double()
        theirs, own = noise_share / (1 - noise_share), SigmaSchedule("flow", shift).sigmas(steps).double()
        below = theirs < LARGEST
        assert below.sum() > 0.9 * steps and not below[0] and own[0] == pytest.approx(LARGEST)
        torch.testing.assert_close(own[below], theirs[below], rtol=1e-4, atol=0)


def test_a_flow_schedule_worked_out_by_hand():
    # s = 3/4, 1/2, 1/4
    torch.testing.assert_close(flow_sigmas(4, 3.0)[1:], torch.tensor([9.0, 3.0, 1.0], dtype=torch.float64))
    crowded = flow_sigmas(200, 3.0)  # s of 0.995, 0.99 and 0.985 lie above the largest sigma, whose s is 0.98129
    s = crowded / (3 + crowded)
    assert float(s[4]) == pytest.approx(0.98)
    torch.testing.assert_close(s[:5].diff(), ((s[4] - s[0]) / 4).expand(4))


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_sigmas_fall_from_the_models_largest_to_zero(schedule):
    for steps in (1, 2, 20, 54, 100, 1000) if schedule.name != "beta" else (1, 2, 20, 54, 100):
        sigmas = schedule.sigmas(steps)
        assert sigmas.shape == (steps + 1,) and sigmas.dtype == torch.float32 and sigmas[-1] == 0
        assert bool((sigmas.diff() < 0).all()) and float(sigmas[0]) == pytest.approx(LARGEST, rel=1e-5)


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_no_two_steps_share_a_time(schedule):
    taus = torch.tensor([noise_time(sigma) for sigma in schedule.sigmas(100)[:-1].tolist()], dtype=torch.float64)
    assert bool((taus.diff() < 0).all()) and 0.9 < float(taus[0]) < 1


@pytest.mark.parametrize(
    ("name", "shift", "why"),
    [
        ("simple", None, "there is no schedule 'simple': choose one of ddpm, flow"),
        ("karras", 3.0, "a shift is only for the schedule flow, not for karras"),
        ("flow", 0.0, "must be above 0, not 0"),
        ("flow", -1.0, "must be above 0"),
        ("flow", float("nan"), "must be above 0"),
        ("flow", float("inf"), "must be above 0"),
    ],
)
def test_what_there_is_not_is_refused(name, shift, why):
    with pytest.raises(ValueError, match=why):
        SigmaSchedule(name, shift)


@pytest.mark.parametrize(
    ("name", "steps", "why"),
    [
        ("beta", 200, "not have 200 different timesteps"),
        ("karras", 0, "between 1 and 1000, not 0"),
        ("flow", 1001, "between 1 and 1000, not 1001"),
    ],
)
def test_step_counts_that_a_curve_does_not_have_are_refused(name, steps, why):
    with pytest.raises(ValueError, match=why):
        SigmaSchedule(name).sigmas(steps)


@pytest.mark.parametrize("name", ["karras", "beta"])
def test_ksampler_agrees_with_the_core_on_other_schedules(folder, name):
    model, steps = load("pixels.safetensors"), 6
    noise = noise_for(model)
    latent = comfy.sample.sample(
        model,
        noise,
        steps,
        CFG,
        "ddim",
        name,
        label(model, "0, 3"),
        label(model),
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=0,
    )
    sigmas = SigmaSchedule(name).sigmas(steps)
    start = noise * (1 + sigmas[0] ** 2).sqrt()
    own = sample(load_dit(folder / "pixels.safetensors"), torch.tensor([0, 3]), noise=start, sigmas=sigmas, cfg=CFG)
    assert decibels(model.model.process_latent_in(latent), own) > 60


def test_a_workload_runs_on_its_schedule_and_says_so():
    model = tiny_dit(in_channels=3, learn_sigma=False)
    protocol = Protocol(steps=8, samples=2, schedule=SigmaSchedule("flow", 3.0))
    flow, ddpm = Workload(model, protocol), Workload(model, Protocol(steps=8, samples=2))
    assert flow.sigmas(4).tolist() == SigmaSchedule("flow", 3.0).sigmas(4).tolist() and len(flow.sigmas()) == 9
    assert torch.equal(flow.noise, ddpm.noise) and not torch.equal(flow.full(8, "ddim"), ddpm.full(8, "ddim"))
    content = describe_protocol(protocol, is_pixels=True, exact=SigmaSchedule(), asking="")
    assert (content["schedule"], content["shift"]) == ("flow", 3.0)
    assert (
        describe_protocol(ddpm.protocol, is_pixels=True, exact=SigmaSchedule(), asking="")["schedule"] == "ddpm"
        and "on ddpm" in content["exact"]
    )


def test_the_benchmarks_page_names_the_schedule():
    assert (PROTOCOL["schedule"], PROTOCOL["shift"]) == ("flow", 3.0)
    assert any(
        "50 steps of ddim on the schedule flow, shift 3, guidance 4" in line for line in of_rows(ours(2.0, 0.5, 40.0))
    )
