"""Training the repair: what it measures, that it learns, that it leaves the model as it was, that resuming is exact."""

from __future__ import annotations

import copy
from dataclasses import replace
from math import isfinite

import pytest
import torch
from tiny_dit import tiny_dit

from tokencache_core.dit.run import DiTRun
from tokencache_core.dit.sampling import cached_sample
from tokencache_core.predictor.trained_parts import TrainedParts
from tokencache_core.runs.run import sample_plain
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.schedule import UniformSchedule
from tokencache_core.settings import CacheSettings
from tokencache_core.training.checkpoint import TrainingStateError, load_state, save_state
from tokencache_core.training.lora_adapters import Adapters
from tokencache_core.training.plan import TrainingPlan
from tokencache_core.training.trainer import Training, TrainingDiverged
from tokencache_core.training.window_loss import Window, follow, step_error

SETTINGS = CacheSettings(cache_ratio=1.0, order=1, last_blocks=1)
PLAN = TrainingPlan(SETTINGS, interval=4, rank=4, forecast_hidden=8, loss="drift", learning_rate=3e-3, held_out_every=2)
SIGMAS = simple_sigmas(10)


def starter(model):
    def start(seed: int) -> DiTRun:
        labels = torch.arange(2) % model.config.num_classes
        return DiTRun(
            model,
            labels,
            noise=starting_noise((2, 4, 8, 8), 2 * seed, SIGMAS[0]),
            sigmas=SIGMAS,
            cfg=2.0,
            solver="ddim",
        )

    return start


@pytest.fixture
def training():
    model = tiny_dit()
    state = Training(PLAN, model, model.blocks, starter(model))
    yield state
    state.close()


def test_a_window_is_what_its_predictions_have_moved():
    window, clean = Window(torch.tensor([8.0, 4.0, 2.0, 0.0])), torch.tensor([[3.0, 3.0]], requires_grad=True)
    assert window.settle(torch.ones(1, 2), 2.0) is None  # no P-step yet
    window.add(8.0, clean)  # moves x by (1 - 4/8) of it
    window.add(4.0, clean)  # and by (1 - 2/4)
    loss = window.settle(torch.tensor([[2.0, 2.0]]), 2.0)
    assert loss.item() == pytest.approx(2.0 / 5.0**0.5)  # only how far off x is counts, in its scale sqrt(1 + 2^2)
    loss.backward()
    assert clean.grad.tolist() == [pytest.approx([0.5 / 5.0**0.5] * 2)]
    assert window.settle(torch.ones(1, 2), 2.0) is None  # begun anew
    window.add(2.0, torch.zeros(2, 2))
    assert window.settle(torch.tensor([[1.0, 1.0], [3.0, 3.0]]), 0.0).item() == pytest.approx(2.0)  # the samples' mean


def test_following_is_the_cached_run_itself_and_measures_how_far_it_strays():
    model = tiny_dit()
    run = starter(model)(0)
    plain = sample_plain(run)
    assert len(plain.states) == 10 and torch.equal(plain.end, run.sample())
    off = follow(run, run.open_session(SETTINGS, UniformSchedule(4)), plain)
    assert len(off) == 2 and min(off) > 0  # I-steps 0, 1, 5, 9: windows 2-4, 6-8
    off = follow(run, run.open_session(SETTINGS, UniformSchedule(5)), plain)
    cached, _ = cached_sample(
        model, torch.arange(2), noise=run.noise, sigmas=SIGMAS, cfg=2.0, settings=SETTINGS, schedule=UniformSchedule(5)
    )
    ends_in_p_steps = (cached - plain.end).flatten(1).square().mean(dim=1).sqrt().mean().item()
    assert off[-1] == pytest.approx(ends_in_p_steps, rel=1e-5)


def test_the_papers_loss_is_each_p_steps_own_error():
    assert step_error(torch.tensor([[3.0, 5.0]]), torch.tensor([[1.0, 1.0]]), 2.0).item() == pytest.approx((1 + 4) / 2)
    model, learned = tiny_dit(), []
    run = starter(model)(0)
    plain = sample_plain(run)
    off = follow(run, run.open_session(SETTINGS, UniformSchedule(4)), plain, learned.append, step_by_step=True)
    assert off == follow(run, run.open_session(SETTINGS, UniformSchedule(4)), plain)  # the run itself is the same
    assert len(learned) == 6 and all(loss > 0 for loss in learned)  # I-steps 0, 1, 5, 9
    state = Training(replace(PLAN, loss="step"), model, model.blocks, starter(model))
    before = [weight.clone() for weight in state.parameters]
    state.step()
    assert not all(torch.equal(a, b) for a, b in zip(before, state.parameters))
    state.close()


def test_it_learns_and_the_model_stays_bit_identical(training):
    plain = training.took_gradients
    model_before = [weight.detach().clone() for weight in plain]
    without = training.held_out(TrainedParts())
    assert training.held_out(training.learned()) == pytest.approx(without, rel=1e-5)  # adapters begin as nothing
    for _ in range(8):
        training.step()
    assert training.held_out(training.learned()) < 0.95 * without
    assert [point.held_out is not None for point in training.log] == [True, True] + [False, True] * 3
    assert all(torch.equal(a, b) for a, b in zip(model_before, plain)) and all(weight.grad is None for weight in plain)


def test_accumulated_windows_make_one_update_of_their_mean():
    """With more windows than there are, one update an iteration: its gradient is the mean of each window's own."""
    model, updates = tiny_dit(), []
    state = Training(replace(PLAN, accumulate=1000), model, model.blocks, starter(model))
    step = state.optimizer.step
    state.optimizer.step = lambda: (
        updates.append([weight.grad.clone() for weight in state.parameters if weight.grad is not None]),
        step(),
    )
    windows, learn = [], state._learn

    def watched(loss):
        windows.append(torch.autograd.grad(loss, state.parameters, retain_graph=True, allow_unused=True))
        learn(loss)

    state._learn = watched
    state.step()
    assert len(updates) == 1 and len(windows) > 4
    means = [
        sum(grad for grad in grads if grad is not None) / len(windows)
        for grads in zip(*windows)
        if any(g is not None for g in grads)
    ]
    norm = torch.cat([mean.flatten() for mean in means]).norm().clamp(min=1.0)  # clipped at 1
    assert all(torch.allclose(ours, mean / norm, atol=1e-6) for ours, mean in zip(updates[0], means))
    state.close()


def test_divergence_keeps_the_average_of_before(training):
    training.step()
    before = [weight.clone() for weight in training.average]
    training.parameters[0].data.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="diverged in iteration 2.*lower learning rate than 0.003"):
        training.step()
    assert all(torch.equal(a, b) for a, b in zip(before, training.average)) and len(training.log) == 1


def test_a_gradient_that_is_no_number_leaves_the_weights_alone(training):
    training.step()
    before = [weight.clone() for weight in training.average + training.parameters]
    training._learn = lambda loss: (
        loss.backward(),
        training.parameters[0].grad.fill_(float("nan")),
        training._update(),
    )
    with pytest.raises(TrainingDiverged, match="diverged in iteration 2"):
        training.step()
    assert all(torch.equal(a, b) for a, b in zip(before, training.average + training.parameters))
    assert training.finish().drift > 0


def test_in_mixed_precision_a_turn_sees_the_updates_of_the_one_before():
    model = tiny_dit()
    state = Training(replace(PLAN, precision="bf16", loss="run"), model, model.blocks, starter(model))
    losses = []

    def jump(loss):
        losses.append(loss.item())
        with torch.no_grad():
            for weight in state.parameters:
                weight.add_(0.3)

    state._learn = jump
    run = state.start(0)
    with state._mixed_precision():
        plain = sample_plain(run)
        for _ in range(2):
            state._followed(run, plain, 0)
    assert losses[0] != pytest.approx(losses[1], rel=1e-2)
    state.close()


def test_a_run_that_has_nothing_to_teach_is_reported(training):
    with pytest.raises(ValueError, match="nothing to learn from: .* ran in full on its P-steps"):
        training._learn(torch.tensor(1.0))


def test_an_iteration_that_is_broken_off_never_was(training, monkeypatch):
    training.step()
    learn, calls = training._learn, []

    def break_off(loss):
        learn(loss)
        calls.append(loss)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_learn", break_off)
    with pytest.raises(KeyboardInterrupt):
        training.step()
    monkeypatch.undo()
    training.step()
    model = tiny_dit()
    straight = Training(PLAN, model, model.blocks, starter(model))
    straight.step(), straight.step()
    assert [point.loss for point in training.log] == [point.loss for point in straight.log]
    assert all(torch.equal(a, b) for a, b in zip(training.parameters, straight.parameters))


def test_it_learns_from_runs_that_compute_some_tokens():
    model = tiny_dit()
    settings = CacheSettings(cache_ratio=0.5, order=1, last_blocks=1, shares="uniform")
    state = Training(replace(PLAN, settings=settings), model, model.blocks, starter(model))
    without = state.held_out(TrainedParts())
    for _ in range(8):
        state.step()
    assert state.held_out(state.learned()) < without


def test_closing_gives_the_plain_layers_back():
    model = tiny_dit()
    before = copy.deepcopy(model.state_dict())
    layers = [id(layer) for layer in model.modules()]
    state = Training(PLAN, model, model.blocks, starter(model))
    state.step()
    assert list(model.state_dict()) != list(before)
    state.close()
    assert [id(layer) for layer in model.modules()] == layers
    assert all(weight.requires_grad for name, weight in model.named_parameters() if name != "pos_embed")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_adapters_do_nothing_outside_on():
    model = tiny_dit()
    run = starter(model)(0)
    before = run.sample()
    adapters = Adapters({2: model.blocks[2]}, rank=4, alpha=4.0, seed=0)
    with torch.no_grad():
        for weight in adapters.parameters:
            weight.normal_(std=0.1)
        assert torch.equal(run.sample(), before)
        with adapters.on():
            assert not torch.allclose(run.sample(), before, atol=1e-3)
    adapters.remove()


def test_resuming_is_exact(training, tmp_path):
    file = tmp_path / "state.training"
    training.step()
    save_state(training, file)
    training.step()
    model = tiny_dit()
    other = Training(PLAN, model, model.blocks, starter(model))
    load_state(other, file)
    other.step()
    for a, b in zip(training.parameters + training.average, other.parameters + other.average):
        assert torch.equal(a, b)
    assert [(p.iteration, p.loss, p.held_out) for p in training.log] == [
        (p.iteration, p.loss, p.held_out) for p in other.log
    ]


def test_the_best_measured_weights_are_kept_and_saved(training, tmp_path, monkeypatch):
    measured = iter([0.5, 0.3, 0.2, 0.4])
    monkeypatch.setattr(training, "held_out", lambda learned: next(measured))  # after iterations 1, 2, 4 and 6
    averages = []
    for _ in range(6):
        training.step()
        averages.append([average.clone() for average in training.average])
    assert training.best.held_out == 0.2
    assert all(torch.equal(a, b) for a, b in zip(training.best.weights, averages[3]))
    assert not all(torch.equal(a, b) for a, b in zip(training.best.weights, averages[5]))
    save_state(training, tmp_path / "state.training")
    model = tiny_dit()
    other = Training(PLAN, model, model.blocks, starter(model))
    load_state(other, tmp_path / "state.training")
    assert other.best.held_out == 0.2 and all(
        torch.equal(a, b) for a, b in zip(other.best.weights, training.best.weights)
    )


def test_the_last_weights_are_measured_at_the_end(training):
    for _ in range(3):
        training.step()
    assert training.log[-1].held_out is None
    outcome = training.finish()
    measured = [point.held_out for point in training.log]
    assert min(measured) == training.best.held_out == outcome.drift
    assert measured[-1] == training.held_out(training._learned(training.average, training.shares))
    assert outcome.without == training.held_out(TrainedParts()) and outcome.speedup > 0
    assert outcome.notes["held_out_drift"] == f"{outcome.drift:.4g}"
    found = outcome.likeness
    assert 0 < found.compute < 1 and isfinite(found.trained) and isfinite(found.without)
    assert outcome.notes["verdict"] == found.verdict
    training.step()  # measured in the step itself
    measured.append(training.log[-1].held_out)
    assert measured[-1] is not None and training.finish().drift == min(measured)


def kept_bytes(plan: TrainingPlan) -> tuple[int, Training]:
    """What the passes of two iterations keep for the gradients."""
    model, kept = tiny_dit(), []
    state = Training(plan, model, model.blocks, starter(model))

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        state.step(), state.step()
    return sum(kept), state


def test_checkpointing_keeps_less_and_learns_the_same():
    plan = replace(PLAN, forecast_hidden=0)
    usual, one = kept_bytes(plan)
    less, other = kept_bytes(replace(plan, checkpointing=True))
    assert less < 0.5 * usual
    assert all(torch.equal(a, b) for a, b in zip(one.parameters, other.parameters))
    assert all("forward" not in block.__dict__ for block in other.adapters.blocks.values())


def test_a_state_of_another_training_is_refused(training, tmp_path):
    file = tmp_path / "state.training"
    save_state(training, file)
    model = tiny_dit()
    other = Training(TrainingPlan(SETTINGS, interval=5, rank=4), model, model.blocks, starter(model))
    with pytest.raises(TrainingStateError, match="other settings; use the same ones, or remove it"):
        load_state(other, file)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(TrainingStateError, match="damaged .*; remove it to start again"):
        load_state(training, file)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (
            {"settings": CacheSettings(), "forecast_hidden": 0},
            "last_blocks is 0; set it to 1 or more, or train a learned forecast",
        ),
        ({"forecast_hidden": -1}, "forecast_hidden must be a width, or 0 for no learned forecast, not -1"),
        ({"interval": 1}, "no P-steps to learn from: set it to 2 or more"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"learning_rate": 0.0}, "learning rate must lie between 0 and 1"),
        ({"held_out_every": 0}, "at least 1, not 0"),
        ({"loss": "mse"}, "loss must be one of run, drift, step, not 'mse'"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, not 'fp8'"),
        (
            {"predictor": "light", "settings": CacheSettings(cache_ratio=0.5), "loss": "step"},
            "also choose every_step, or choose another loss",
        ),
        ({"accumulate": 0}, "accumulate is a number of losses: at least 1, not 0"),
    ],
)
def test_choices_that_cannot_be_trained_are_refused(choices, words):
    with pytest.raises(ValueError, match=words):
        TrainingPlan(**{"settings": SETTINGS, **choices})


def test_more_last_blocks_than_blocks(training):
    plan = TrainingPlan(CacheSettings(last_blocks=4))
    with pytest.raises(ValueError, match="last_blocks is 4, but the model has only 3 blocks"):
        model = tiny_dit()
        Training(plan, model, model.blocks, training.start)


def test_a_training_ends_at_the_iteration_nearest_to_its_minutes():
    model = tiny_dit()
    state = Training(PLAN, model, model.blocks, starter(model))
    assert not state.is_over(0.01)  # one iteration always runs
    state.iteration, state.seconds = 3, 60.0  # 20 seconds each
    assert not state.is_over(1.2) and state.is_over(1.1)  # a fourth would end 8 seconds late, 14 seconds late
    assert state.is_over(1.2, elapsed=63.0)
    state.close()


def test_intervals_are_drawn_around_the_plans():
    plan = replace(PLAN, interval=5)
    assert {plan.drawn_schedule(seed).interval for seed in range(100)} == {3, 4, 5, 6, 7, 8}
    assert {replace(PLAN, interval=2).drawn_schedule(seed).interval for seed in range(100)} == {2, 3}


@pytest.mark.parametrize(
    ("soft", "words"),
    [(False, "train longer, raise the learning rate (1e-09)"), (True, "or, with soft, sparsity (0.5)")],
)
def test_scores_that_are_all_alike_are_reported(soft, words):
    model = tiny_dit()
    settings = CacheSettings(cache_ratio=0.5, order=1)
    plan = replace(PLAN, settings=settings, predictor="light", learning_rate=1e-9, sparsity=0.5, soft=soft)
    state = Training(plan, model, model.blocks, starter(model))
    assert state.remark() == ""  # nothing has been learned yet
    state.step()
    assert words in state.remark()
    state.planner.spread = 0.5
    assert state.remark() == ""
    state.close()


@pytest.mark.parametrize(
    "choices",
    [{}, {"settings": CacheSettings(cache_ratio=0.5, order=1), "predictor": "block"}],
    ids=["LoRA", "predictor"],
)
def test_mixed_precision_trains_float32_weights_in_bf16_passes(choices):
    model = tiny_dit()
    state = Training(replace(PLAN, precision="bf16", **choices), model, model.blocks, starter(model))
    seen = set()
    model.blocks[0].mlp.fc1.register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
    before = [weight.clone() for weight in state.parameters]
    state.step()
    assert seen == {torch.bfloat16}
    assert all(weight.dtype == torch.float32 for weight in state.parameters)
    assert not all(torch.equal(a, b) for a, b in zip(before, state.parameters))
    state.close()
