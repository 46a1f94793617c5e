"""`--schedule` and `--shift` of every command that samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import refusal
from safetensors.torch import load_file
from tiny_dit import tiny_dit_file

from tokencache_core.__main__ import main
from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.dit.checkpoint import load_dit
from tokencache_core.experiments.robustness import Condition
from tokencache_core.predictor.file import read_trained_cache
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.tuning.preset import load_preset

FLOW = ("--schedule", "flow", "--shift", "3")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dit_file(tmp_path_factory.mktemp("model") / "tiny.safetensors", in_channels=3, learn_sigma=False)


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def test_sample_samples_on_it(model, tmp_path):
    out = tmp_path / "s.safetensors"
    run("sample", "--model", model, "--out", out, "--labels", "0,1", "--steps", 6, "--cache", "off", *FLOW)
    workload = Workload(load_dit(model), Protocol(steps=6, samples=2, schedule=SigmaSchedule("flow", 3.0)))
    assert torch.equal(load_file(out)["full"], workload.full(6, "ddim"))


def test_bench_measures_on_it_and_its_protocol_and_page_say_so(model, tmp_path):
    out, page = tmp_path / "flow.json", tmp_path / "page.md"
    run(
        "bench",
        "--model",
        model,
        "--steps",
        8,
        "--samples",
        2,
        "--repeats",
        1,
        "--methods",
        "fewer-steps,tokencache",
        "--json",
        out,
        *FLOW,
    )
    content = json.loads(out.read_text())
    assert (content["protocol"]["schedule"], content["protocol"]["shift"]) == ("flow", 3.0)
    run("bench", "--read", out, "--page", page)
    assert "8 steps of ddim on the schedule flow, shift 3" in page.read_text()
    del content["protocol"]["schedule"]
    out.write_text(json.dumps(content))
    assert "not written by `bench --json`" in refusal("bench", "--read", out, "--page", page)


def test_what_is_learned_says_on_which_schedule(model, tmp_path):
    file, preset = tmp_path / "p.safetensors", tmp_path / "p.json"
    run("train", "--model", model, "--out", file, "--steps", 8, "--batch", 2, "--iterations", 1, *FLOW)
    assert read_trained_cache(file).notes["schedule"] == "flow, shift 3"
    run("calibrate", "--model", model, "--predictor", file, "--steps", 8, "--samples", 2, "--schedule", "karras")
    notes = read_trained_cache(file).notes
    assert notes["calibrated on"] == "8 steps of ddim on karras" and notes["schedule"] == "flow, shift 3"
    run("tune", "--model", model, "--out", preset, "--psnr", 10, "--steps", 8, "--samples", 2, "--minutes", 1, *FLOW)
    assert load_preset(preset).notes["schedule"] == "flow, shift 3"


def test_experiments_ask_their_questions_on_it(model, capsys, monkeypatch):
    monkeypatch.setattr("tokencache_core.cli.experiment.CONDITIONS", (Condition(steps=6),))
    run("experiment", "robustness", "--model", model, "--samples", 1, *FLOW)
    assert "6 steps of ddim on flow, shift 3, guidance 4" in capsys.readouterr().out
    tables = []
    for options in ((), FLOW):
        run(
            "experiment",
            "settings",
            "--model",
            model,
            "--samples",
            1,
            "--i-steps",
            2,
            "--vary",
            "last-blocks=0",
            *options,
        )
        tables.append(capsys.readouterr().out.splitlines()[-1].split("|")[4])  # PSNR of the cached run
    assert tables[0] != tables[1]
    run("experiment", "quantisation", "--model", model, "--samples", 1, "--steps", 4, "--variants", "bf16", *FLOW)


@pytest.mark.parametrize("name", ["sample", "bench", "tune", "train", "calibrate"])
def test_a_shift_without_flow_is_refused(model, tmp_path, name):
    needed = {
        "sample": ("--out", tmp_path / "a.safetensors"),
        "bench": (),
        "tune": ("--out", tmp_path / "a.json", "--psnr", 10),
        "train": ("--out", tmp_path / "a.safetensors"),
        "calibrate": ("--predictor", tmp_path / "a.safetensors"),
    }[name]
    assert "--shift 3: a shift is only for the schedule flow, not for ddpm" in refusal(
        name, "--model", model, *needed, "--shift", 3
    )
    assert "--shift -1: the shift must be above 0" in refusal(
        name, "--model", model, *needed, "--schedule", "flow", "--shift", -1
    )
    assert "invalid choice: 'magic'" in refusal(name, "--model", model, *needed, "--schedule", "magic")


def test_more_steps_than_a_schedule_has_are_refused(model):
    assert "--schedule beta: the schedule beta does not have 200 different timesteps" in refusal(
        "bench", "--model", model, "--steps", 200, "--schedule", "beta"
    )
