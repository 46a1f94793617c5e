"""The Cache Predictor: its two kinds, its plans, the relaxed pass that teaches it, and its file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_dit import tiny_dit
from tiny_predictor import tiny_predictor
from toy import TOY_BLOCK, ToyModel

from tokencache_core.blocks.call import BlockCall
from tokencache_core.dit.run import DIT_BLOCK, DiTRun
from tokencache_core.engine.allocation import on_ladder, tokens_per_block
from tokencache_core.engine.network_call import cached_blocks
from tokencache_core.engine.session import open_session
from tokencache_core.predictor.file import read_trained_cache, save_trained_cache
from tokencache_core.predictor.predicted_choice import PredictedPlanner
from tokencache_core.predictor.token_scores import BlockPredictor, LightPredictor, new_predictor, predictor_from_tensors
from tokencache_core.predictor.trained_cache import kept
from tokencache_core.predictor.trained_parts import TrainedParts
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.schedule import ExplicitSchedule, UniformSchedule
from tokencache_core.settings import CacheSettings
from tokencache_core.training.checkpoint import load_state, save_state
from tokencache_core.training.mixed_tokens import MixedTokens
from tokencache_core.training.plan import TrainingPlan
from tokencache_core.training.relaxed_choice import RelaxedPlanner
from tokencache_core.training.trainer import Training

SETTINGS = CacheSettings(cache_ratio=0.5, order=1, shares="uniform")
PLAN = TrainingPlan(SETTINGS, rank=4, predictor="block", learning_rate=3e-3, held_out_every=2)
SIGMAS = simple_sigmas(10)


def starter(model):
    def start(seed: int) -> DiTRun:
        noise = starting_noise((2, 4, 8, 8), 2 * seed, SIGMAS[0])
        return DiTRun(model, torch.arange(2), noise=noise, sigmas=SIGMAS, cfg=2.0, solver="ddim")

    return start


class Scores(torch.nn.Module):
    """In place of a predictor: fixed scores (R, N, blocks), the same for all rows."""

    def __init__(self, scores: list[list[float]]) -> None:
        super().__init__()
        self.scores, self.calls = torch.nn.Parameter(torch.tensor(scores)), 0
        self.head = torch.nn.Linear(1, len(scores[0]))

    def forward(self, call: BlockCall, tau: float, rate: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.scores.expand(call.tokens.shape[0], -1, -1)


def first_call(model) -> BlockCall:
    x = torch.randn(2, 16, 64)
    return BlockCall(DIT_BLOCK, model.blocks[0].forward, (x, torch.randn(2, 64), {}), {})


@pytest.mark.parametrize("kind", ["block", "light"])
def test_both_kinds_begin_with_equal_scores_and_are_rebuilt_from_their_tensors(kind):
    model = tiny_dit()
    predictor, call = new_predictor(kind, model.blocks[0], 64, 3), first_call(model)
    scores = predictor(call, 0.5, torch.ones(2, 16))
    assert scores.shape == (2, 16, 3) and torch.all(scores == 0.5)
    torch.nn.init.normal_(predictor.head.weight)
    again = predictor_from_tensors(kind, predictor.state_dict(), model.blocks[0])
    assert torch.equal(again(call, 0.5, torch.ones(2, 16)), predictor(call, 0.5, torch.ones(2, 16)))
    assert predictor(call, 0.5, torch.ones(2, 16)).std() > 0


def test_the_block_kind_begins_as_the_first_block_and_is_another_copy():
    model = tiny_dit()
    predictor, call = BlockPredictor(model.blocks[0], 64, 3), first_call(model)
    assert torch.equal(predictor.block(**call.arguments), model.blocks[0](**call.arguments))
    assert not {id(weight) for weight in predictor.parameters()} & {id(weight) for weight in model.parameters()}


def test_tensors_of_another_model_are_refused():
    tensors = new_predictor("block", tiny_dit().blocks[0], 64, 3).state_dict()
    with pytest.raises(ValueError, match="does not fit this model"):
        predictor_from_tensors("block", tensors, tiny_dit(width=128).blocks[0])
    with pytest.raises(ValueError, match="does not fit this model"):
        predictor_from_tensors("light", tensors, tiny_dit().blocks[0])


def run_toy(planner, taus=(1.0, 0.9, 0.8, 0.7), gains=(1.0, 2.0), **settings):
    """The toy under `planner`, I-steps 0 and 1; tokens computed at each step."""
    toy, counts = ToyModel(gains, n_tokens=4), []
    session = open_session(
        CacheSettings(**{"cache_ratio": 0.5, "order": 0, "shares": "uniform", **settings}),
        ExplicitSchedule((0, 1)),
        sigmas=list(taus),
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=toy.streams,
        planner=planner,
    )
    outputs = [toy.run(session, tau) for tau in taus]
    counts = [step.token_counts[0].tolist() for step in session.close().steps]
    return outputs, counts


def test_each_block_computes_the_tokens_it_is_told_and_waiting_counts():
    scores = Scores([[0.9, 0.1], [0.4, 0.2], [0.2, 0.4], [0.1, 0.9]])
    outputs, counts = run_toy(PredictedPlanner(scores))
    assert counts[2] == [1, 1, 1, 1]  # the best two of each block
    assert outputs[2][0, :, 0].tolist() == pytest.approx([0.8 + 1.8, 0.8 + 1.8, 0.9 + 1.6, 0.9 + 1.6])
    # at 0.7 block 0's tokens have waited 0.1, 0.1, 0.2, 0.2: urgencies 0.09, 0.04, 0.04, 0.02
    assert outputs[3][0, 0, 0].item() == pytest.approx(0.7 + 1.8)
    assert scores.calls == 1  # once per window


def test_every_step_predicts_anew():
    scores = Scores([[0.9, 0.1]] * 4)
    run_toy(PredictedPlanner(scores, every_step=True))
    assert scores.calls == 2


def test_in_the_relaxed_pass_blocks_compete_and_values_are_those_of_the_hard_choice():
    scores = Scores([[0.9, 0.8], [0.7, 0.1], [0.6, 0.2], [0.3, 0.4]])  # the best four: three of block 0, one of block 1
    planner = RelaxedPlanner(scores, compute_ratio=0.5)
    outputs, _ = run_toy(planner, taus=(1.0, 0.9, 0.8))
    assert outputs[2][0, :, 0].tolist() == pytest.approx([0.8 + 1.6, 0.8 + 1.8, 0.8 + 1.8, 0.9 + 1.8])
    assert planner.shares() == (0.75, 0.25)


def test_scores_have_the_gradient_of_computing_instead_of_reusing_less_its_mean():
    scores = Scores([[0.9, 0.8], [0.7, 0.1], [0.6, 0.2], [0.3, 0.4]])
    outputs, _ = run_toy(RelaxedPlanner(scores, compute_ratio=0.5), taus=(1.0, 0.9, 0.8))
    outputs[2][0, :, 0].sum().backward()
    # d out / d a = computed - reused: 0.8 - 0.9 in block 0, 1.6 - 1.8 in block 1, whether it was computed or not; the
    # mean is -0.15
    assert torch.allclose(scores.scores.grad, torch.tensor([[0.05, -0.05]] * 4), atol=1e-6)


def test_soft_weights_are_the_scores():
    scores = Scores([[0.9, 0.8], [0.7, 0.1], [0.6, 0.2], [0.3, 0.4]])
    outputs, _ = run_toy(RelaxedPlanner(scores, compute_ratio=0.5, soft=True), taus=(1.0, 0.9, 0.8))
    assert outputs[2][0, 0, 0].item() == pytest.approx(0.9 * 0.8 + 0.1 * 0.9 + 0.8 * 1.6 + 0.2 * 1.8)


def test_the_mean_score_is_that_of_every_look_since_it_was_taken():
    scores = Scores([[0.9, 0.8], [0.7, 0.1], [0.6, 0.2], [0.3, 0.4]])
    planner = RelaxedPlanner(scores, compute_ratio=0.5, every_step=True)
    run_toy(planner)
    assert len(planner.mean_scores) == 2  # two P-steps
    taken = planner.take_mean_score()
    assert taken.item() == pytest.approx(0.5)
    taken.backward()
    assert torch.allclose(scores.scores.grad, torch.full((4, 2), 1 / 8))
    assert planner.take_mean_score() == 0


def test_keys_and_values_are_mixed_and_only_chosen_ones_kept():
    old, new = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    mix = MixedTokens(torch.tensor([[1.0, 0.25, 0.0]]), torch.tensor([[True, False, False]]))
    assert mix.scatter_(old, new)[0, :, 0].tolist() == [1.0, 0.25, 0.0]
    assert old[0, :, 0].tolist() == [1.0, 0.0, 0.0]
    heads_first = torch.zeros(1, 5, 3, 2)
    assert mix.with_text(0).scatter_(heads_first, torch.ones(1, 5, 3, 2), dim=2)[0, 4, :, 1].tolist() == [
        1.0,
        0.25,
        0.0,
    ]


def test_shares_on_the_ladder_keep_the_budget():
    assert on_ladder((0.9, 0.35, 0.05, 0.03)) == pytest.approx((1.0, 1 / 3, 0.0, 0.0))
    assert on_ladder((0.1,) * 10) == pytest.approx((1 / 3,) * 3 + (0.0,) * 7)
    settings = CacheSettings(cache_ratio=0.5, last_blocks=1)
    assert tokens_per_block(settings, 4, 9, (1.0, 1 / 3, 0.0)) == (9, 3, 0, 9)
    with pytest.raises(
        ValueError, match="there are 2 learned block shares, but the model has 3 blocks before the last 1"
    ):
        tokens_per_block(settings, 4, 9, (1.0, 0.0))


@pytest.mark.parametrize("kind", ["block", "light"])
@pytest.mark.parametrize("last_blocks", [0, 1])
def test_it_learns_and_its_file_gives_the_same_run(kind, last_blocks, tmp_path):
    model = tiny_dit()
    plan = replace(PLAN, predictor=kind, settings=replace(SETTINGS, last_blocks=last_blocks))
    training = Training(plan, model, model.blocks, starter(model))
    before = [weight.detach().clone() for weight in training.parameters]
    for _ in range(4):
        training.step()
    learned = training.learned()
    assert (learned.repair is None) == (last_blocks == 0)
    assert sum(learned.shares) == pytest.approx(0.5 * (3 - last_blocks), abs=0.34)
    assert sum(not torch.equal(a, b) for a, b in zip(before, training.parameters)) > len(before) / 2
    drift = training.held_out(learned)
    training.close()
    save_trained_cache(tiny_predictor(settings=plan.settings, **kept(learned)), tmp_path / "p.safetensors")
    loaded = read_trained_cache(tmp_path / "p.safetensors").learned(model.blocks)
    assert loaded.shares == learned.shares
    assert training.held_out(loaded) == pytest.approx(drift, rel=0.05)  # float16


def test_scores_beat_equal_ones_where_one_token_matters():
    """A toy whose drift only token 2 of block 1 causes: straight-through finds it."""
    scores = Scores([[0.5, 0.5]] * 4)
    optimizer = torch.optim.Adam([scores.scores], lr=0.05)
    for _ in range(20):
        outputs, _ = run_toy(RelaxedPlanner(scores, compute_ratio=0.25), taus=(1.0, 0.9, 0.8))
        error = (outputs[2][0, 2, 0] - outputs[2][0, 2, 0].detach().mul(0).add(2.4)).square()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert scores.scores[2].min() > scores.scores[[0, 1, 3]].max()


def test_resuming_is_exact(tmp_path):
    runs = []
    for stop in (False, True):
        model = tiny_dit()
        training = Training(PLAN, model, model.blocks, starter(model))
        training.step()
        if stop:
            save_state(training, tmp_path / "s.training")
            model = tiny_dit()
            training = Training(PLAN, model, model.blocks, starter(model))
            load_state(training, tmp_path / "s.training")
        training.step()
        runs.append(training)
    assert runs[0].shares == runs[1].shares
    assert all(
        torch.equal(a, b) for a, b in zip(runs[0].parameters + runs[0].average, runs[1].parameters + runs[1].average)
    )


def test_no_choice_no_predictor():
    with pytest.raises(ValueError, match="there is no choice: set it between 0 and 1"):
        replace(PLAN, settings=CacheSettings(cache_ratio=1.0))
    with pytest.raises(ValueError, match="must be one of block, light, not 'big'"):
        replace(PLAN, predictor="big")


def test_ratio_zero_with_a_predictor_is_bit_identical():
    model = tiny_dit()
    run = starter(model)(0)
    learned = TrainedParts(predictor=LightPredictor(64, 3).requires_grad_(False))
    session = run.open_session(CacheSettings(cache_ratio=0.0), UniformSchedule(3), learned=learned)

    def around(denoise):
        def cached(x, sigma):
            with session.evaluation(float(sigma)), run.cached(session):
                return denoise(x, sigma)

        return cached

    with torch.no_grad():
        assert torch.equal(run.sample(around), starter(model)(0).sample())


@pytest.mark.parametrize("relaxed", [False, True])
def test_conditionings_that_come_apart_share_a_plan(relaxed):
    scores = Scores([[0.9, 0.8], [0.7, 0.1], [0.6, 0.2], [0.3, 0.4]])
    planner = RelaxedPlanner(scores, 0.5) if relaxed else PredictedPlanner(scores, every_step=True)
    toy = ToyModel((1.0, 2.0), n_tokens=4)
    session = open_session(
        CacheSettings(cache_ratio=0.5, order=0, shares="uniform"),
        ExplicitSchedule((0,)),
        sigmas=[1.0, 0.9, 0.8],
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=toy.streams,
        planner=planner,
    )
    for tau in (1.0, 0.9, 0.8):
        with session.evaluation(tau):
            outputs = []
            for key in ("positive", "negative"):
                blocks = [(block, TOY_BLOCK) for block in toy.blocks]
                with cached_blocks(session, blocks, key=key, images=1, nothing_between_blocks=True):
                    outputs.append(toy(1, tau))
        assert torch.equal(*outputs)
    assert scores.calls == (1 if relaxed else 2)
