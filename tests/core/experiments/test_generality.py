"""`experiment generality`: its conditions, its table, and that a call goes on where one before was stopped."""

import json

import pytest
from tiny_dit import tiny_dit_file

from tokencache_core.__main__ import main
from tokencache_core.experiments.generality import GeneralityCondition, GeneralityOutcome, conditions, summary, table
from tokencache_core.sampling.sigma_schedule import SigmaSchedule

DDPM = SigmaSchedule()


def outcome(model: str, condition: str, default: float, searched: float, fewer: float) -> GeneralityOutcome:
    return GeneralityOutcome(
        model, condition, default, default - 1, default + 1, searched, 23.0, fewer, fewer + 0.5, 20.0, "a run"
    )


def test_conditions_are_all_combinations_that_leave_a_choice():
    found = conditions([DDPM], [4, 20], ["ddim"], [4.0], [1 / 2, 1 / 4, 0.9])
    assert [(each.steps, each.count) for each in found] == [(4, 2), (20, 10), (20, 5), (20, 18)]
    assert (
        str(GeneralityCondition(SigmaSchedule("flow", 3.0), 20, "dpmpp_2m", 1.5, 0.4))
        == "flow, shift 3, 20 steps of dpmpp_2m, guidance 1.5, 8 I-steps"
    )


def test_the_table_has_each_condition_and_the_means_and_the_summary_counts():
    rows = [outcome("a", "x", 30.0, 32.0, 25.0), outcome("b", "y", 24.0, 24.5, 26.0)]
    lines = list(table(rows))
    assert lines[2] == "| a | x | 30.0 | 29.0 | 31.0 | 32.0 | 23.0 | 25.0 | 25.5 | 20.0 |" and lines[-1].startswith(
        "| mean of 2 | | 27.0 | 26.0 | 28.0 | 28.2 |"
    )
    default, others, calibrated = summary(rows)
    assert (
        "default places are 1.2 dB behind the search on average, 2.0 dB at most; within 1 dB of it on 1 of 2" in default
        and "solver on 1." in default
    )
    assert "from other models alone are 2.2 dB behind" in others and "within 1 dB of it on 2 of 2" in calibrated
    assert list(summary([])) == []


def test_a_call_measures_what_is_missing_and_writes_json_and_page(tmp_path, capsys):
    model, out, page = tiny_dit_file(tmp_path / "tiny.safetensors"), tmp_path / "g.json", tmp_path / "g.md"
    run = [
        "experiment",
        "generality",
        "--model",
        str(model),
        "--json",
        str(out),
        "--solvers",
        "ddim",
        "--guidance",
        "4",
        "--shares",
        "1/2",
        "--samples",
        "1",
        "--tries",
        "3",
    ]
    assert main([*run, "--schedules", "flow:3", "--steps", "4"]) == 0
    first = json.loads(out.read_text())
    assert main([*run, "--schedules", "flow:3,karras", "--steps", "4", "--page", str(page)]) == 0
    both = json.loads(out.read_text())
    assert len(first) == 1 and both[0] == first[0] and len(both) == 2
    assert GeneralityOutcome.from_json(both[1]).condition == "karras, 4 steps of ddim, guidance 4, 2 I-steps"
    assert page.read_text().count("| tiny.safetensors |") == 2 and "mean of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--schedules", "simple"], "no schedule 'simple'"),
        (["--schedules", "flow:0"], "above 0"),
        (["--steps", "2"], "from 3"),
        (["--solvers", "heun"], "known are"),
        (["--guidance", "much"], "numbers"),
        (["--shares", "1"], "between 0 and 1"),
    ],
)
def test_wrong_lists_are_refused_before_any_work(tmp_path, capsys, options, says):
    assert (
        main(
            [
                "experiment",
                "generality",
                "--model",
                str(tmp_path / "none.safetensors"),
                "--json",
                str(tmp_path / "g.json"),
                *options,
            ]
        )
        != 0
    )
    assert says in capsys.readouterr().err


def test_a_file_of_something_else_is_not_written_over(tmp_path, capsys):
    out = tmp_path / "other.json"
    out.write_text('{"rows": []}')
    assert (
        main(
            [
                "experiment",
                "generality",
                "--model",
                str(tiny_dit_file(tmp_path / "tiny.safetensors")),
                "--json",
                str(out),
            ]
        )
        != 0
    )
    assert "name another file" in capsys.readouterr().err and out.read_text() == '{"rows": []}'
