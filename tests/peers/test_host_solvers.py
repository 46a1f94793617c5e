"""Fewer steps by the host's solvers: the host's own samplers on our DiT, and what the benchmark says of them."""

from __future__ import annotations

import importlib
import json

import comfy.sample
import pytest
import torch
from bench_rows import of_rows, ours
from commands import refusal
from host_dit import decibels, label
from tiny_dit import tiny_dit, tiny_dit_file

from peers.host_models import host_model
from peers.host_solvers import host_solvers
from tokencache_core.__main__ import main
from tokencache_core.bench.exact import nearer_solvers, sentence
from tokencache_core.bench.match import StepSeconds
from tokencache_core.bench.methods import HOST_METHODS, HOST_SOLVERS, METHODS, Plan
from tokencache_core.bench.rows import Row
from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.sampling.sigma_schedule import SigmaSchedule

FLOW = SigmaSchedule("flow", 3.0)


def workload(**changes) -> Workload:
    return Workload(
        tiny_dit(in_channels=3, learn_sigma=False), Protocol(**{"steps": 20, "samples": 2, "cfg": 2.0, **changes})
    )


def test_they_are_the_solvers_of_the_methods():
    assert set(host_solvers(torch.device("cpu"))) == set(HOST_SOLVERS)
    assert set(HOST_METHODS) < set(METHODS)


def by_ksampler(work: Workload, solver: str, steps: int, **sigmas: torch.Tensor) -> torch.Tensor:
    model = host_model(work)
    noise = work.noise / (1 + work.sigmas()[0] ** 2).sqrt()
    latent = comfy.sample.sample(
        model,
        noise,
        steps,
        work.protocol.cfg,
        solver,
        "simple",
        label(model, "0, 1"),
        label(model),
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=0,
        **sigmas,
    )
    return model.model.process_latent_in(latent)


@pytest.mark.parametrize("solver", HOST_SOLVERS)
def test_ksampler_gives_the_same(solver):
    work = workload()
    assert decibels(by_ksampler(work, solver, 6), host_solvers(work.device)[solver](work, 6)) > 60


@pytest.mark.parametrize("schedule", [SigmaSchedule(), FLOW, SigmaSchedule("karras")], ids=str)
def test_our_res_multistep_is_the_hosts(schedule):
    work = workload(schedule=schedule)
    assert decibels(work.full(9, "res_multistep"), by_ksampler(work, "res_multistep", 9, sigmas=work.sigmas(9))) > 60


@pytest.mark.parametrize("schedule", [SigmaSchedule(), FLOW], ids=str)
@pytest.mark.parametrize("solver", HOST_SOLVERS)
def test_each_evaluates_once_a_step_on_the_protocols_sigmas_and_changes_nothing(solver, schedule):
    work = workload(schedule=schedule)
    noise, seen = work.noise.clone(), []
    handle = work.model.register_forward_pre_hook(lambda module, inputs: seen.append(float(inputs[1][0])))
    pictures = host_solvers(work.device)[solver](work, 7)
    handle.remove()
    assert len(seen) == 7 and seen == sorted(seen, reverse=True) and pictures.shape == noise.shape
    assert torch.equal(work.noise, noise) and torch.equal(pictures, host_solvers(work.device)[solver](work, 7))


@pytest.mark.parametrize("solver", HOST_SOLVERS)
def test_each_comes_nearer_to_the_exact_solution_with_more_steps(solver):
    work = workload()
    exact, solve = work.exact(), host_solvers(work.device)[solver]
    few, more, many = (decibels(solve(work, steps), exact) for steps in (8, 25, 100))
    assert few + 6 < more and more + 6 < many


def test_their_sweeps_run_the_solvers_and_count_steps_as_the_compute():
    work = workload()
    solvers = host_solvers(work.device)
    candidates = METHODS["fewer-steps-deis"].candidates(Plan(work, StepSeconds(1.0, {}), host_solvers=solvers))
    assert [candidate.settings for candidate in candidates] == [
        {"steps": steps, "solver": "deis"} for steps in (13, 10, 7, 5, 4, 3)
    ]
    pictures, share = candidates[-1].run()
    assert share == 3 / 20 and torch.equal(pictures, solvers["deis"](work, 3))
    few = METHODS["fewer-steps-uni_pc"].candidates(Plan(workload(steps=4), StepSeconds(1.0, {}), host_solvers=solvers))
    assert [candidate.settings["steps"] for candidate in few] == [3, 2]


def test_bench_has_their_rows_and_without_a_host_says_that_they_are_left_out(tmp_path, capsys, monkeypatch):
    model, out = tiny_dit_file(tmp_path / "tiny.safetensors", in_channels=3, learn_sigma=False), tmp_path / "b.json"
    run = ["bench", "--model", str(model), "--steps", "6", "--samples", "1", "--repeats", "1", "--json", str(out)]

    def measured(*options: str) -> set[str]:
        assert main([*run, *options]) == 0
        return {row["method"] for row in json.loads(out.read_text())["rows"]}

    assert measured("--methods", "fewer-steps-uni_pc,fewer-steps-res_multistep") == {
        "full",
        "fewer-steps-uni_pc",
        "fewer-steps-res_multistep",
    }
    capsys.readouterr()
    really = importlib.import_module

    def without_host(name: str, *rest):
        if name == "peers.host_solvers":
            raise ModuleNotFoundError("No module named 'comfy'")
        return really(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without_host)
    assert not (found := measured()) & set(HOST_METHODS) and "fewer-steps-res_multistep" in found
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert "fewer-steps-uni_pc, fewer-steps-deis: ComfyUI" in said and "No module named 'comfy'" in said
    line = refusal(*run, "--methods", "fewer-steps-deis")
    assert "--methods fewer-steps-deis" in line and "make setup" in line


def fewer(solver: str, speedup: float, exact_db: float) -> Row:
    name = "fewer-steps" if solver == "ddim" else f"fewer-steps-{solver}"
    return Row(name, {"steps": round(20 / speedup), "solver": solver}, 1.0, speedup, 1 / speedup, 20.0, None, exact_db)


SPEEDUPS = (2.0, 3.0, 4.0)
CACHED = (ours(1.0, 1.0, 31.0), ours(3.0, 0.3, 25.0), ours(5.0, 0.2, 19.0))  # 28 dB at 2x, 25 at 3x, 22 at 4x


def test_a_solver_that_comes_as_near_in_the_same_time_is_named():
    # 30, 26, 22 dB
    rows = [
        *CACHED,
        fewer("ddim", 1.0, 40.0),
        fewer("ddim", 5.0, 0.0),
        fewer("uni_pc", 1.0, 34.0),
        fewer("uni_pc", 5.0, 18.0),
    ]
    found = [(one.speedup, one.solver, one.ours_db, one.theirs_db) for one in nearer_solvers(rows, SPEEDUPS)]
    assert found == [
        (2.0, "fewer-steps", 28.0, 30.0),
        (3.0, "fewer-steps-uni_pc", 25.0, 26.0),
        (4.0, "fewer-steps-uni_pc", 22.0, 22.0),
    ]
    full = Row("full", {"steps": 20, "solver": "ddim"}, 1.0, 1.0, 1.0, None, None, 29.4)
    text = sentence([full, *rows], SPEEDUPS)
    assert (
        "from which the full run itself is 29.4 dB" in text
        and "at 3x fewer-steps-uni_pc (26.0 dB) as close as tokencache (25.0 dB)" in text
    )
    assert text.count(". ") == 0 and text in of_rows(full, *rows)


def test_nothing_is_said_where_no_solver_comes_as_near():
    rows = [*CACHED, fewer("uni_pc", 1.0, 30.0), fewer("uni_pc", 5.0, 10.0)]
    assert (
        nearer_solvers(rows, SPEEDUPS) == []
        and sentence(rows, SPEEDUPS) == ""
        and not [line for line in of_rows(*rows) if "exact solution, or" in line]
    )
    assert sentence(CACHED, SPEEDUPS) == ""
