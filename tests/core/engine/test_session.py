"""A run on the toy model: which evaluations compute, what P-steps return, how caches are told apart."""

import pytest
import torch
from toy import ToyModel

from tokencache_core.engine.session import open_session
from tokencache_core.engine.timeline import Timeline
from tokencache_core.schedules.schedule import ExplicitSchedule, UniformSchedule
from tokencache_core.settings import CacheSettings

TAUS = [1.0, 0.8, 0.6, 0.4, 0.2]


def session_of(model, schedule=ExplicitSchedule((0, 1)), **settings):
    return open_session(
        CacheSettings(**{"reach": 1.0, **settings}),
        schedule,
        sigmas=TAUS,
        tau=lambda sigma: sigma,
        streams=model.streams,
    )


def run_all(model, session, **how):
    return [model.run(session, tau, **how)[0, 0, 0].item() for tau in TAUS]


def test_reuse_repeats_the_last_i_step_and_a_line_is_forecast_exactly():
    model = ToyModel((1.0, 2.0))  # the blocks add 3 tau in all
    assert run_all(model, session_of(model, order=0)) == pytest.approx([3.0, 2.4, 2.4, 2.4, 2.4])
    assert run_all(model, session_of(model, order=1)) == pytest.approx([3.0, 2.4, 1.8, 1.2, 0.6])


def test_a_line_forecast_further_than_its_step_overshoots_by_as_much():
    model = ToyModel((1.0, 2.0))  # 2.4 at the last I-step, falling by 0.6 a step
    assert run_all(model, session_of(model, order=1, reach=1.5)) == pytest.approx([3.0, 2.4, 1.5, 0.6, -0.3], abs=1e-5)


def test_a_parabola_needs_order_two():
    model = ToyModel((1.0, 2.0), power=2)
    exact = [3 * tau**2 for tau in TAUS]
    assert run_all(model, session_of(model, ExplicitSchedule((0, 1, 2)), order=2)) == pytest.approx(exact, abs=1e-5)
    assert run_all(model, session_of(model, ExplicitSchedule((0, 1, 2)), order=1))[3] != pytest.approx(
        exact[3], abs=1e-3
    )


@pytest.mark.parametrize("nothing_between_blocks", [True, False])
def test_blocks_that_reuse_everything_are_never_called(nothing_between_blocks):
    model = ToyModel((1.0, 2.0, 4.0))
    session = session_of(model, order=1, last_blocks=1)
    assert run_all(model, session, nothing_between_blocks=nothing_between_blocks) == pytest.approx(
        [7 * tau for tau in TAUS]
    )
    assert [len(block.calls) for block in model.blocks] == [2, 2, 5]


@pytest.mark.parametrize("score", ["staleness", "random", "round-robin"])
def test_some_tokens_are_computed_and_the_others_follow(score):
    model = ToyModel((1.0, 2.0))
    session = session_of(model, order=0, cache_ratio=0.75, shares="uniform", score=score)
    outputs = torch.stack([model.run(session, tau) for tau in TAUS])[:, 0, :, 0]
    assert [block.calls for block in model.blocks] == [[4, 4, 1, 1, 1]] * 2
    fresh = outputs[2].eq(torch.tensor(1.8)) | (outputs[2] - 1.8).abs().lt(1e-6)
    assert fresh.sum() == 1  # one token computed, the others repeat 2.4
    assert outputs[2][~fresh].tolist() == pytest.approx([2.4] * 3)


@pytest.mark.parametrize("score", ["staleness", "round-robin"])
def test_every_token_has_its_turn(score):
    model = ToyModel((1.0,))
    session = session_of(model, ExplicitSchedule((0,)), order=0, cache_ratio=0.75, score=score)
    outputs = torch.stack([model.run(session, tau) for tau in TAUS])[:, 0, :, 0]
    assert sorted(outputs[-1].tolist()) == pytest.approx([0.2, 0.4, 0.6, 0.8])  # each was computed at another step


def test_ratio_zero_computes_every_token_on_p_steps_through_the_blocks_own_forward():
    model = ToyModel((1.0, 2.0))
    assert run_all(model, session_of(model, cache_ratio=0.0)) == [model(1, tau)[0, 0, 0].item() for tau in TAUS]
    assert model.blocks[0].calls[:5] == [4] * 5


def test_a_rising_sigma_is_an_i_step():
    model = ToyModel((1.0,))
    session = session_of(model, ExplicitSchedule((0,)))
    kinds = []
    for tau in (1.0, 0.8, 0.9, 0.6):
        model.run(session, tau)
        kinds.append(session.log.evaluations[-1].computes_all)
    assert kinds == [True, False, True, False]
    assert any("sigma rises" in note for note in session.close().notes)


def test_of_a_steps_evaluations_only_the_first_is_computed():
    """Those between steps belong to the step before."""
    model = ToyModel((1.0,))
    session = session_of(model, ExplicitSchedule((0, 2)))
    for tau in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
        model.run(session, tau)
    assert [e.computes_all for e in session.log.evaluations] == [True, False, False, False, True, False]


def test_a_solver_that_evaluates_without_end_in_a_step_is_computed_again():
    model = ToyModel((1.0,))
    session = session_of(model, ExplicitSchedule((0,)))
    for tau in (1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.7, 0.69, 0.68):
        model.run(session, tau)
    assert [e.computes_all for e in session.log.evaluations] == [True, False, False] * 2 + [True] + [False] * 3


def test_rows_without_a_cache_run_whole_on_a_p_step():
    model = ToyModel((1.0,))
    session = session_of(model, ExplicitSchedule((0,)))
    model.run(session, 1.0, key="first")
    assert model.run(session, 0.5, key="second")[0, 0, 0].item() == 0.5
    assert model.run(session, 0.4, key="second")[0, 0, 0].item() == 0.5
    report = session.close()
    assert [step.misses for step in report.steps] == [0, 1, 0]
    assert [step.compute for step in report.steps] == [1.0, 1.0, 0.0]


def test_two_calls_with_one_key_in_one_evaluation_do_not_share_a_cache():
    from toy import TOY_BLOCK

    from tokencache_core.engine.network_call import cached_blocks

    model = ToyModel((1.0,))
    session = session_of(model, ExplicitSchedule((0,)), order=0)
    blocks = [(model.blocks[0], TOY_BLOCK)]
    seen = []
    for tau in (1.0, 0.5):
        with session.evaluation(tau):
            for shift in (0.0, 10.0):
                with cached_blocks(session, blocks, key="same", images=1, nothing_between_blocks=True):
                    seen.append(model(1, tau + shift)[0, 0, 0].item())
    assert seen == [1.0, 11.0, 1.0, 11.0]


def test_forwards_are_put_back_when_the_model_fails():
    model = ToyModel((1.0, 2.0))
    session = session_of(model)
    model.blocks[1].gain = None
    with pytest.raises(TypeError):
        model.run(session, 1.0)
    assert all("forward" not in block.__dict__ for block in model.blocks)


def test_report_counts_what_was_computed():
    model = ToyModel((1.0, 2.0))
    session = session_of(model, UniformSchedule(interval=2, warmup=1), order=1, cache_ratio=0.75, shares="uniform")
    for tau in TAUS:
        model.run(session, tau, rows=4, images=2)
    report = session.close()
    assert [step.kind for step in report.steps] == list("IPIPI")
    assert report.block_counts.tolist() == [[4, 4], [1, 1], [4, 4], [1, 1], [4, 4]]
    assert report.compute == pytest.approx((3 + 2 * 0.25) / 5)
    assert report.token_counts.shape == (2, 4) and report.token_counts.sum().item() == 2 * (3 * 8 + 2 * 2)
    assert report.memory_bytes > 0 and report.seconds > 0 and report.speedup_estimate > 0
    assert "IPIPI" in report.text()


def test_a_k_beyond_the_models_depth_is_refused_before_sampling():
    with pytest.raises(ValueError, match="only 2 blocks"):
        session_of(ToyModel((1.0, 2.0)), last_blocks=3)


def test_an_i_step_that_was_passed_over_is_made_up_for():
    timeline = Timeline([1.0, 0.8, 0.6, 0.4, 0.2], {0, 2}, lambda sigma: sigma)
    assert not timeline.computes_all(0.8, 1.0) and timeline.computes_all(0.4, 0.8)
    assert not timeline.computes_all(0.4, 0.6) and not timeline.computes_all(0.2, 0.6)
    assert timeline.passed_over([1.0, 0.8, 0.4]) == 2 and timeline.passed_over([1.0, 0.8, 0.6, 0.4, 0.2]) == 0
    assert timeline.passed_over([1.0, 0.7, 0.2]) == 0  # a solver's own times
    assert Timeline([0.2, 0.4, 0.6], {0, 1, 2}, lambda sigma: sigma).passed_over([0.2, 0.4]) == 0


def test_an_evaluation_that_never_reached_the_network_is_none():
    session = open_session(
        CacheSettings(), ExplicitSchedule((0, 1)), sigmas=[1.0, 0.8, 0.6], tau=lambda sigma: sigma, streams=("x",)
    )
    with session.evaluation(1.0) as evaluation:
        evaluation.reached = True
    with session.evaluation(0.8):
        pass  # another node's cache has answered
    with session.evaluation(0.6) as evaluation:
        evaluation.reached = True
        assert evaluation.computes_all
    report = session.close()
    assert [step.index for step in report.steps] == [
        0,
        2,
    ] and "on 1 of 3 steps the model was not called" in report.notes[0]
