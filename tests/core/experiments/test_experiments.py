"""Redundancy and robustness, on DiTs of random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny_dit import tiny_dit, tiny_dit_file
from tiny_runs import run_of

from tokencache_core.__main__ import main
from tokencache_core.dit.model import DiT
from tokencache_core.dit.run import DiTRun
from tokencache_core.experiments import context as context_table
from tokencache_core.experiments.robustness import USUAL, compare
from tokencache_core.experiments.settings_sweep import sweep, variants
from tokencache_core.experiments.training_sweep import Trial, trained, trials
from tokencache_core.predictor.trained_parts import TrainedParts
from tokencache_core.redundancy.measure import measure_redundancy
from tokencache_core.settings import DEFAULTS
from tokencache_core.training.plan import TrainingPlan

SHORT = replace(USUAL, steps=8, cfg=2.0)


def starting(model: DiT) -> Callable[[int], DiTRun]:
    """From a number of steps to a run."""
    return lambda steps: run_of(model, steps=steps)


def test_redundancy_is_that_of_the_blocks_own_updates():
    model, updates = tiny_dit(), {}
    run = run_of(model)
    for index, block in enumerate(model.blocks):
        block.register_forward_hook(
            lambda module, args, kwargs, output, index=index: updates.setdefault(index, []).append(
                output - (args[0] if args else kwargs["x"])
            ),
            with_kwargs=True,
        )
    run.sample()
    found = measure_redundancy(run_of(tiny_dit()))
    assert found.similarity.shape == found.change.shape == (3, 3) and found.token_change.shape == (3, 2, 16)
    assert found.grid.places(found.token_change).shape == (3, 2, 1, 4, 4)
    for block, steps in updates.items():
        for step, (before, here) in enumerate(zip(steps, steps[1:])):
            cosine = torch.nn.functional.cosine_similarity(here, before, dim=-1).mean()
            change = ((here - before).norm(dim=-1) / here.norm(dim=-1)).mean()
            assert found.similarity[step, block] == pytest.approx(cosine.item(), rel=1e-4)
            assert found.change[step, block] == pytest.approx(change.item(), rel=1e-4)


def test_redundancy_needs_two_steps():
    with pytest.raises(ValueError, match="take at least 2"):
        measure_redundancy(run_of(tiny_dit(), steps=1))


def test_robustness_compares_with_as_many_whole_steps():
    model, labels = tiny_dit(), torch.tensor([0, 3])
    conditions = (SHORT, replace(SHORT, solver="dpmpp_2m"), replace(SHORT, scale=1.5))
    outcomes = list(compare(model, labels, 7, DEFAULTS, 0.5, conditions))
    assert [found.condition for found in outcomes] == list(conditions)
    assert all(found.i_steps == 4 and found.speedup > 0 for found in outcomes)
    assert len({found.cached_db for found in outcomes}) == 3 and all(
        found.cached_db != found.fewer_steps_db for found in outcomes
    )
    with pytest.raises(ValueError, match="between 0 and 1"):
        next(compare(model, labels, 7, DEFAULTS, 1.0, (SHORT,)))


def test_settings_are_swept_beside_more_i_steps_in_the_same_time():
    model = tiny_dit()
    tried = variants("cache-ratio", ["0", "0.5", "1"], replace(DEFAULTS, shares="uniform"))
    found = sweep(starting(model), 20, [(*each, TrainedParts()) for each in tried.items()], 5, model.is_pixels)
    everything, half, nothing = found
    assert everything.compute == 1 and everything.db == 100  # no difference at all
    assert pytest.approx(nothing.compute) == 5 / 20 and nothing.compute < half.compute < 1
    assert all(2 <= row.more_i_steps <= 20 and row.speedup > 0 for row in (half, nothing))


def test_contexts_are_set_beside_the_first():
    model, contexts = tiny_dit(), ("stale", "forecast", "computed")
    tried = context_table.combinations((0.5, 1.0), ("random",), (1,))
    some, none = context_table.compare(starting(model), 12, tried, contexts, 4, model.is_pixels)
    assert [row.settings.cache_ratio for row in (some, none)] == [
        0.5,
        1.0,
    ] and some.compute > none.compute == pytest.approx(4 / 12)
    assert len(set(some.db.values())) == 3 and len(set(none.db.values())) == 1
    assert (
        some.gain_db["forecast"] == pytest.approx(some.db["forecast"] - some.db["stale"], abs=1e-4)
        and some.gain_db["stale"] == 0
    )
    kept = {context: some.memory_bytes[context] - some.memory_bytes["computed"] for context in contexts}
    assert kept["forecast"] == 2 * kept["stale"] > 0 and len(set(none.memory_bytes.values())) == 1
    heading, _, first, second = context_table.table((some, none), contexts)
    assert heading.count("|") == first.count("|") == second.count("|") == 14 and first.startswith(
        "| 0.5 | random | 1 |"
    )
    with pytest.raises(ValueError, match="context must be one of forecast, stale, computed"):
        next(context_table.compare(starting(model), 12, tried, ("held",), 4, model.is_pixels))


@pytest.mark.parametrize(
    ("setting", "values", "words"),
    [
        ("ratio", ["1"], "no setting 'ratio': choose one of cache-ratio,"),
        ("cache-ratio", ["2"], "cache-ratio: cache_ratio must lie between"),
        ("last-blocks", ["x"], "last-blocks: invalid literal"),
    ],
)
def test_settings_that_are_none(setting, values, words):
    with pytest.raises(ValueError, match=words):
        variants(setting, values, DEFAULTS)


def test_a_choice_of_the_training_is_one_of_the_plan_its_settings_or_the_iterations():
    trial = Trial(TrainingPlan(replace(DEFAULTS, last_blocks=1), seed=3), None, 0.5)
    tried = trials("last-blocks", ["1", "2"], trial)
    assert [each.plan.settings.last_blocks for each in tried.values()] == [1, 2] and list(tried) == ["1", "2"]
    assert [each.plan.soft for each in trials("soft", ["no", "yes"], trial).values()] == [False, True]
    assert [each.iterations for each in trials("iterations", ["5", "10"], trial).values()] == [5, 10]
    assert all(each.plan.seed == 3 for each in tried.values())
    with pytest.raises(ValueError, match="soft: it must be yes or no, not 'True'"):
        trials("soft", ["True"], trial)
    with pytest.raises(ValueError, match="no setting 'colour': choose one of cache-ratio"):
        trials("colour", ["1"], trial)
    with pytest.raises(ValueError, match="at least 1 iteration, not 0"):
        trials("iterations", ["0"], trial)


def test_a_trial_that_diverges_does_not_end_the_sweep():
    model, told = tiny_dit(), []
    plan = TrainingPlan(replace(DEFAULTS, last_blocks=1), forecast_hidden=0)
    bad = replace(plan, seed=5)

    def runs(seed: int) -> DiTRun:
        run = run_of(model, steps=8)
        run.noise = run.noise * float("nan") if seed == bad.seed else run.noise
        return run

    found = list(
        trained({"bad": Trial(bad, 1, 0.0), "good": Trial(plan, 1, 0.0)}, model, list(model.blocks), runs, told.append)
    )
    assert (
        [value for value, *_ in found] == ["good"]
        and "bad: training diverged" in told[0]
        and "good: 1 iterations" in told[1]
    )


@pytest.mark.slow
def test_the_commands_print_tables_and_draw(tmp_path, capsys, monkeypatch):
    model, picture = tiny_dit_file(tmp_path / "tiny.safetensors"), tmp_path / "redundancy.png"
    assert (
        main(
            ["experiment", "redundancy", "--model", str(model), "--samples", "2", "--steps", "8", "--out", str(picture)]
        )
        == 0
    )
    assert "| 1 to 2 |" in capsys.readouterr().out
    with Image.open(picture) as drawn:
        assert drawn.width > 800 and len(drawn.convert("RGB").getcolors(1 << 24)) > 50
    monkeypatch.setattr("tokencache_core.cli.experiment.CONDITIONS", (SHORT,))
    assert main(["experiment", "robustness", "--model", str(model), "--samples", "2"]) == 0
    assert "| 8 steps of ddim, guidance 2 | 3 |" in capsys.readouterr().out
    settings = ["experiment", "settings", "--model", str(model), "--samples", "2", "--steps", "16", "--i-steps", "5"]
    assert main([*settings, "--vary", "last-blocks=0,1"]) == 0
    assert "| last-blocks |" in (told := capsys.readouterr().out) and "| 1 |" in told
    context = [
        "experiment",
        "context",
        "--model",
        str(model),
        "--samples",
        "2",
        "--steps",
        "6",
        "--i-steps",
        "3",
        "--cache-ratios",
        "0.5",
        "--orders",
        "1",
    ]
    assert main([*context, "--scores", "random,round-robin"]) == 0
    assert "| stale | forecast | gain |" in (told := capsys.readouterr().out) and "| 0.5 | round-robin | 1 |" in told
    assert main([*context, "--scores", "luck"]) == 2 and "score must be one of" in capsys.readouterr().err
    training = [
        "experiment",
        "training",
        "--model",
        str(model),
        "--samples",
        "2",
        "--batch",
        "1",
        "--steps",
        "8",
        "--i-steps",
        "4",
        "--last-blocks",
        "1",
    ]
    assert main([*training, "--i-steps", "9", "--vary", "iterations=1"]) == 2
    assert "--i-steps 9: a run of 8 steps has no more" in capsys.readouterr().err
    assert main([*training, "--vary", "iterations=1,2"]) == 0
    printed = capsys.readouterr()
    assert "| iterations |" in printed.out and "2: 2 iterations in" in printed.err and "held-out drift" in printed.err
    with pytest.raises(SystemExit):
        main(["experiment", "settings", "--model", str(model), "--vary", "order"])
    assert "such as cache-ratio=0.8,0.9, not 'order'" in capsys.readouterr().err
    assert main(["experiment", "redundancy", "--model", str(model), "--out", str(tmp_path / "no" / "x.png")]) == 2
