"""Places from one full run and a few cached ones, on a tiny DiT; and by the commands."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_dit import tiny_dit, tiny_dit_file

from tokencache_core.__main__ import main
from tokencache_core.dit.run import DiTRun
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.calibration import load_calibration
from tokencache_core.schedules.run_record import RunRecord, RunRecorder, noise_of
from tokencache_core.settings import CacheSettings
from tokencache_core.tuning.calibrate_places import calibrate_places
from tokencache_core.tuning.place_proposals import (
    DENSE,
    EVEN,
    FADINGS,
    KNOWN,
    SIMULATED,
    listed_counts,
    simulated_order,
    simulated_way,
    tried_counts,
    ways,
)
from tokencache_core.tuning.place_trials import CHANCE, PlaceTrials


def run_of(steps: int = 8, solver: str = "ddim") -> DiTRun:
    model = tiny_dit(in_channels=3, learn_sigma=False)
    sigmas = SigmaSchedule("flow", 3.0).sigmas(steps)
    noise = starting_noise((2, 3, model.config.input_size, model.config.input_size), 1, sigmas[0])
    return DiTRun(model, torch.tensor([0, 1]), noise=noise, sigmas=sigmas, cfg=4.0, solver=solver)


def calibrated(**options):
    return calibrate_places(run_of(), CacheSettings(), **options)


def test_real_runs_decide_within_the_budget():
    lines: list[str] = []
    _, found = calibrated(counts=(3, 4), budget=4.0, log=lines.append)
    assert len(lines) == len(found.trials) >= 2
    assert all(len(trial.places) in (3, 4) for trial in found.trials)
    assert {trial.order for trial in found.trials if len(trial.places) == 3} == {1, 2}  # the first number decides
    assert {trial.order for trial in found.trials if len(trial.places) == 4} == {found.order}
    for count in (3, 4):
        tried = {
            trial.places: trial.psnr_db
            for trial in found.trials
            if len(trial.places) == count and trial.order == found.order
        }
        assert tried[found.places[count]] >= max(tried.values()) - CHANCE


def test_what_is_not_usual_must_be_better_by_more_than_chance():
    run = run_of()
    with torch.no_grad():
        trials = PlaceTrials(run, CacheSettings(), run.sample(), lambda line: None)
    proposed = {"usual": (0, 3, 5), "other": (0, 2, 5), "far": (0, 1, 5)}
    trials.decided = {(2, places): db for places, db in zip(proposed.values(), (30.0, 30.0 + CHANCE / 2, 20.0))}
    assert trials.best(2, proposed, 0.0, usual=("usual",)) == ("usual", (0, 3, 5))
    trials.decided[2, (0, 2, 5)] = 30.0 + 2 * CHANCE
    assert trials.best(2, proposed, 0.0, usual=("usual",)) == ("other", (0, 2, 5))


def test_without_a_budget_simulation_decides():
    record, found = calibrated(budget=0)
    by_order = {order: simulated_way(record, CacheSettings(order=order), True) for order in (1, 2)}
    count, *_ = tried_counts(8)
    order = simulated_order(record, CacheSettings(), True, {order: way(count) for order, way in by_order.items()})
    assert found.trials == () and found.order == order
    assert found.places == {count: by_order[order](count) for count in listed_counts(8)}


def test_an_order_that_is_asked_for_is_the_only_one():
    _, found = calibrated(counts=(3,), orders=(0,))
    assert found.order == 0 and {trial.order for trial in found.trials} == {0}


def test_another_order_must_be_better_by_more_than_chance():
    run = run_of()
    with torch.no_grad():
        trials = PlaceTrials(run, CacheSettings(), run.sample(), lambda line: None)
    proposed = {2: ((0, 3, 5), (0, 1, 5)), 1: ((0, 1, 5), (0, 2, 5))}
    for gain, order in ((CHANCE / 2, 2), (2 * CHANCE, 1)):
        trials.decided = {
            (2, (0, 3, 5)): 30.0,
            (2, (0, 1, 5)): 20.0,
            (1, (0, 1, 5)): 25.0,
            (1, (0, 2, 5)): 30.0 + gain,  # each order counts by its closest places
        }
        assert trials.best_order(proposed) == order


def test_simulation_prefers_a_parabola_where_the_run_is_one_and_a_line_where_it_is_noise():
    times = tuple(1 - step / 12 for step in range(12))
    settings = CacheSettings(reach=1.0, corrector=0.0)
    parabola, noise = np.array(times)[:, None] ** 2, np.random.default_rng(0).normal(size=(12, 40))
    for added, order in ((parabola, 2), (noise, 1)):
        sigmas = (*map(noise_of, times), 0.0)
        record = RunRecord(times, sigmas, (0.0,) * 12, (added @ added.T)[None])
        proposed = {each: simulated_way(record, replace(settings, order=each), False)(5) for each in (2, 1)}
        assert simulated_order(record, settings, False, proposed) == order


def test_every_way_proposes_places_for_every_number_of_i_steps():
    run = run_of()
    recorder = RunRecorder(run.sigmas.tolist(), run.input_scale)
    with torch.no_grad():
        run.sample(recorder.around)
    found = ways(recorder.record(run.noise_time), CacheSettings(), True)
    assert list(found)[:4] == [SIMULATED, KNOWN, EVEN, DENSE] and len(found) == 4 + len(FADINGS)
    for way in found.values():
        for count in range(1, 8):
            places = way(count)
            assert len(places) == count and places[0] == 0 and places[-1] < 8


def test_what_it_gives_does_not_depend_on_the_clock():
    assert calibrated(counts=(3,))[1].places == calibrated(counts=(3,))[1].places


def test_a_run_too_short_to_choose_in_is_refused():
    with pytest.raises(ValueError, match="3 steps or more"):
        calibrate_places(run_of(2), CacheSettings())


def command(model, out, *more: str) -> list[str]:
    return [
        "calibrate",
        "--model",
        str(model),
        "--out",
        str(out),
        "--schedule",
        "flow",
        "--shift",
        "3",
        "--steps",
        "8",
        "--samples",
        "2",
        *more,
    ]


def test_the_command_writes_what_bench_reads(tmp_path, capsys):
    model, out = tiny_dit_file(tmp_path / "tiny.safetensors"), tmp_path / "places.json"
    assert main(command(model, out, "--i-steps", "3")) == 0
    calibration = load_calibration(out)
    assert calibration.sampler == "euler" and len(calibration.taus) == 8 and calibration.trials
    assert "full run" in calibration.notes["cost"] and "flow, shift 3" in calibration.notes["schedule"]
    assert f"wrote {out}" in capsys.readouterr().out
    bench = [
        "bench",
        "--model",
        str(model),
        "--schedule",
        "flow",
        "--shift",
        "3",
        "--steps",
        "8",
        "--samples",
        "1",
        "--repeats",
        "1",
        "--methods",
        "tokencache",
    ]
    assert main([*bench, "--speedups", "2", "--calibration", str(out), "--json", str(tmp_path / "bench.json")]) == 0
    rows = {row["method"]: row for row in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    count = len(rows["calibrated"]["settings"]["i_steps"])
    assert tuple(rows["calibrated"]["settings"]["i_steps"]) == calibration.i_steps(count, calibration.taus)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--i-steps", "1"], "from 2 to 7"),
        (["--i-steps", "8"], "from 2 to 7"),
        (["--i-steps", "three"], "whole numbers"),
    ],
)
def test_wrong_numbers_are_refused_before_any_work(tmp_path, capsys, more, says):
    assert main(command(tmp_path / "none.safetensors", tmp_path / "places.json", *more)) != 0
    assert says in capsys.readouterr().err


def test_a_calibration_needs_its_ending_and_bench_a_calibration(tmp_path, capsys):
    model = tiny_dit_file(tmp_path / "tiny.safetensors")
    assert main(command(model, tmp_path / "places.txt")) != 0
    assert ".json" in capsys.readouterr().err
    (tmp_path / "preset.json").write_text('{"format": "tokencache preset"}')
    assert main(["bench", "--model", str(model), "--calibration", str(tmp_path / "preset.json")]) != 0
    assert "tokencache calibration" in capsys.readouterr().err
