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
        input_scale=lambda sigma: 1.0,
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
        CacheSettings(),
        ExplicitSchedule((0, 1)),
        sigmas=[1.0, 0.8, 0.6],
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=("x",),
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


def evaluated(session, *evaluations):
    """Which of these evaluations, (sigma, x) each, are I-steps."""
    for sigma, x in evaluations:
        with session.evaluation(sigma, x) as evaluation:
            evaluation.reached = True
    return [each.computes_all for each in session.log.evaluations]


def session_with(i_steps, **how):
    return open_session(
        CacheSettings(**{"order": 0, **how.pop("settings", {})}),
        ExplicitSchedule(i_steps),
        sigmas=TAUS,
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=("x",),
        **how,
    )


@pytest.mark.parametrize(("length", "last"), [(1.05, False), (1.07, True), (0.93, True)])
def test_a_second_evaluation_at_one_sigma_is_computed_where_x_has_moved(length, last):
    session, x = session_with((0,)), torch.ones(1, 4)
    assert evaluated(session, (1.0, x), (0.6, x), (0.6, length * x)) == [True, False, last]
    assert any("several times at one sigma" in note for note in session.close().notes) is last


def test_x_of_another_shape_has_moved():
    session = session_with((0,))
    assert evaluated(session, (1.0, torch.ones(1, 4)), (0.6, torch.ones(1, 4)), (0.6, torch.ones(1, 5)))[-1]


def test_x_that_moves_between_sigmas_or_is_not_known_is_left_to_the_schedule():
    session, x = session_with((0,)), torch.ones(1, 4)
    kinds = evaluated(session, (1.0, x), (0.8, 9 * x), (0.8, None), (0.7, None), (0.6, x))
    assert kinds == [True, False, False, False, False]


def test_where_the_sampler_adds_noise_x_always_moves_and_every_evaluation_of_an_i_step_is_computed():
    x = torch.ones(1, 4)
    session = session_with((0,), fresh_noise=True)
    assert evaluated(session, (1.0, x), (0.8, x), (0.8, 2 * x)) == [True, False, False]
    session = session_with((0, 1), fresh_noise=True)
    assert evaluated(session, (1.0, x), (0.8, x), (0.7, x), (0.6, x)) == [True, True, True, False]


def test_where_memory_runs_out_the_call_is_not_counted_and_the_cache_starts_anew():
    model = ToyModel((1.0, 2.0))
    session = session_of(model, ExplicitSchedule((0,)))
    model.run(session, 1.0, rows=2)
    with session.evaluation(0.8) as evaluation:
        with pytest.raises(torch.OutOfMemoryError), session.surviving_want_of_memory():
            session.rows("rows", ("a",))
            evaluation.computed[0] += 8
            evaluation.available += 16
            raise torch.OutOfMemoryError
        assert not evaluation.calls and evaluation.available == sum(evaluation.computed) == 0
        session.ran_whole(2)
        session.ran_whole(7)  # of so many rows, nothing is known
    assert model.run(session, 0.6, rows=2)[0, 0, 0].item() == pytest.approx(3 * 0.6)  # nothing was left
    report = session.close()
    assert any("memory ran out" in note for note in report.notes)
    assert [(step.computed, step.available) for step in report.steps] == [(16, 16)] * 3


def test_after_a_failure_of_its_own_everything_is_computed():
    model = ToyModel((1.0, 2.0))
    session = session_of(model, ExplicitSchedule((0,)))
    model.run(session, 1.0)
    with session.evaluation(0.8) as evaluation:
        counts = evaluation.counts()
        evaluation.available += 5
        session.run_whole(counts)
        assert evaluation.computes_all and session.runs_whole and evaluation.available == 0
        assert not session.store.rows_by_key and session.store.streams == model.streams


def test_the_network_cannot_be_called_outside_of_an_evaluation():
    session = session_with((0,))
    with pytest.raises(RuntimeError, match="outside of an evaluation"):
        session.rows("rows", ("a",))
    with session.evaluation(1.0) as outer:
        with session.evaluation(1.0) as inner:
            assert session.evaluation_under_way is inner
        assert session.evaluation_under_way is outer
    assert session.current is None


def predicted(session, sigma, x, clean, computed):
    """What the sampler is given after an evaluation that computed this share of the tokens and predicted `clean`."""
    with session.evaluation(sigma, x) as evaluation:
        evaluation.reached = True
        evaluation.available, evaluation.computed = 4, [round(4 * computed)]
    return session.corrected(x, clean)


def test_an_i_step_makes_good_what_the_p_step_before_it_got_wrong():
    """Directions (x - clean) / sigma: 1 at the first I-step, held at the P-step, and 3 at the second I-step. The line
    between them has 2 at the P-step, so that the second I-step, as long as that, must go by 4.
    """
    session, x = session_with((0, 2), euler=True, settings={"corrector": 1.0}), torch.zeros(1, 4)
    assert predicted(session, 1.0, x, x - 1.0, 1.0).tolist() == [[-1.0] * 4]
    x = x - 0.2
    assert torch.equal(predicted(session, 0.8, x, x - 0.8, 0.0), x - 0.8)
    x = x - 0.2
    given = predicted(session, 0.6, x, (x - 3 * 0.6).half(), 1.0)
    assert given.dtype == torch.float16
    assert ((x - given.float()) / 0.6).flatten().tolist() == pytest.approx([4.0] * 4, abs=1e-2)


def test_a_prediction_that_cannot_be_corrected_is_given_on_and_ends_what_was_known():
    x = torch.zeros(1, 4)
    clean = x - 1.0
    plain = session_with((0, 2))
    assert plain.corrector is None and predicted(plain, 1.0, x, clean, 1.0) is clean
    assert session_with((0,), euler=True, settings={"corrector": 0.0}).corrector is None
    for unfit in ((clean, clean), torch.zeros(1, 5)):
        session = session_with((0, 2), euler=True, settings={"corrector": 1.0})
        predicted(session, 1.0, x, clean, 1.0)
        predicted(session, 0.8, x - 0.2, x - 1.0, 0.0)
        assert predicted(session, 0.8, x - 0.2, unfit, 0.0) is unfit
        assert not session.corrector.i_steps and not session.corrector.p_steps
        assert predicted(session, 0.6, x, clean, 1.0) is clean


def test_what_lies_between_steps_is_no_step_of_eulers():
    session, x = session_with((0, 2), euler=True, settings={"corrector": 1.0}), torch.zeros(1, 4)
    predicted(session, 1.0, x, x - 1.0, 1.0)
    predicted(session, 0.8, x - 0.2, x - 1.0, 0.0)
    predicted(session, 0.7, x, x - 1.0, 0.0)
    assert not session.corrector.i_steps and not session.corrector.p_steps
