"""What a report advises, on runs whose numbers can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_predictor import tiny_predictor

from tokencache_core.blocks.token_grid import LatentShape
from tokencache_core.engine.record import Report, RunConditions, StepRecord
from tokencache_core.reporting.advice import advice, size_in_words, text_with_advice

GOOD = "IIPPIPPIPPIPPIPPIPPI"  # 20 steps, 8 of them whole


def run(kinds: str = GOOD, *, whole: float = 1.0, p_step: float = 0.1, computed: int = 0, **changes) -> Report:
    """One evaluation a step, of 100 block-tokens; I-steps take `whole` seconds, P-steps `p_step` and compute `computed`
    block-tokens.
    """
    steps = tuple(
        StepRecord(
            index=index,
            sigma=1.0 - index / len(kinds),
            kind=kind,
            seconds=whole if kind == "I" else p_step,
            bookkeeping=0.0,
            computed=100 if kind == "I" else computed,
            available=100,
            block_tokens=(100.0,),
            token_counts=torch.zeros(1, 4),
        )
        for index, kind in enumerate(kinds)
    )
    return Report(**{"steps": steps, "memory_bytes": 0, "settings": "", **changes})


def with_steps(report: Report, **at) -> Report:
    """`at`: _3={"misses": 1} changes step 3."""
    steps = list(report.steps)
    for name, changes in at.items():
        steps[int(name[1:])] = replace(steps[int(name[1:])], **changes)
    return replace(report, steps=tuple(steps))


def only(report: Report) -> str:
    (found,) = advice(report)
    return found


def test_a_run_that_went_well_needs_none():
    report = run(
        conditions=RunConditions(steps=20, sampler="euler", fresh_noise=False, trained_on=(32, 32)),
        latent=LatentShape((32, 32)),
    )
    assert advice(report) == () and text_with_advice(report) == report.text()


def test_few_steps():
    text = only(run("IIPIIP"))  # 6 / 4
    assert (
        text.startswith("6 steps are too few to cache: 4 of them were I-steps")
        and "at most 1.5x" in text
        and "20 steps" in text
    )
    assert only(run("I")) == "1 step is too few to cache. Use 20 steps or more."


def test_few_steps_of_which_some_are_forecast():
    text = only(run("IIPP"))  # 4 / 2: more than LITTLE_GAIN, and yet
    assert text.startswith("4 steps are few to cache:") and "20 steps" in text
    assert only(run("IIPPIPPIPPIP")).startswith("12 steps are few to cache:")
    assert advice(run("IIPPIPPIPPIPP")) == ()  # 13


def test_20_to_30_steps_bear_less():
    text = only(run("IPPP" * 5))  # 20 / 5
    assert (
        text.startswith("If the picture differs too much, set speed_up to 2")
        and "5 full steps of 20 are few (4.0x)" in text
        and "36 to 41 dB at 2x" in text
    )
    assert advice(run("IPP" * 13)) == ()  # 39 steps
    assert advice(run(GOOD)) == () == advice(run("IPPIP" * 4))  # 2.5x


def test_a_schedule_of_nearly_all_i_steps():
    text = only(run("IIIP" * 5))  # 20 / 15
    assert (
        text.startswith("the schedule leaves little to cache: 15 of 20 steps")
        and "1.3x" in text
        and "Raise speed_up" in text
    )


def test_p_steps_that_compute_nearly_everything():
    assert "P-steps computed 90% of the block-tokens" in only(run(p_step=0.9, computed=90))
    assert advice(run(p_step=0.8, computed=80)) == ()


def test_misses_are_counted_and_placed():
    text = only(with_steps(run(), _3={"misses": 2, "computed": 100}, _6={"misses": 1, "computed": 100}))
    assert (
        text.startswith("3 calls of the model on P-steps found nothing in the cache")
        and "at steps 3, 6, counted from 0" in text
    )
    assert only(with_steps(run(), _3={"misses": 1})).startswith("1 call of")


def test_a_sampler_that_evaluates_twice():
    report = run("IIPPPPIIPPPPIIPPPPIIPPPPIIPP", conditions=RunConditions(steps=14, sampler="heun"))
    report = replace(report, steps=tuple(replace(step, index=place // 2) for place, step in enumerate(report.steps)))
    text = only(report)
    assert text.startswith("this sampler (heun) calls the model twice per step: 28 evaluations for 14 steps")
    other = advice(replace(report, conditions=RunConditions(steps=19)))  # 28 < 28.5
    assert not [text for text in other if "calls the model" in text]


def test_fresh_noise_matters_where_something_is_forecast():
    noisy = RunConditions(sampler="euler_ancestral", fresh_noise=True)
    assert only(run(conditions=noisy)).startswith("this sampler (euler_ancestral) adds fresh noise on every step")
    assert advice(run(conditions=RunConditions(fresh_noise=None))) == ()
    assert not [text for text in advice(run("I" * 20, conditions=noisy)) if "noise" in text]


def test_a_predictor_of_another_size():
    conditions = RunConditions(trained_on=(64, 64), pixels=8)
    text = only(run(conditions=conditions, latent=LatentShape((128, 128))))
    assert text.startswith("the predictor was trained at 512 x 512 px, but this run is 1024 x 1024 px.")
    assert advice(run(conditions=conditions, latent=LatentShape((66, 64)))) == ()  # 3 % more tokens
    assert advice(run(conditions=conditions, latent=LatentShape())) == ()  # nobody knows


def test_a_model_of_one_size_alone():
    conditions = RunConditions(model_size=(32, 32), pixels=1)
    text = only(run(conditions=conditions, latent=LatentShape((512, 512))))
    assert text.startswith("this model was trained at 32 x 32 px only, but this run is 512 x 512 px") and text.endswith(
        "Use an empty latent of 32 x 32 px."
    )
    assert advice(run(conditions=conditions, latent=LatentShape((36, 32)))) == ()  # an eighth more tokens
    assert only(run(conditions=conditions, latent=LatentShape((16, 32))))


@pytest.mark.parametrize(
    ("size", "pixels", "words"),
    [
        ((60, 104), 8, "832 x 480 px"),
        ((21, 60, 104), 8, "832 x 480 px and 21 latent frames"),
        ((60, 104), 0, "a latent of 60 x 104"),
        ((256,), 8, "a latent of 256"),
    ],
)
def test_sizes_in_words(size, pixels, words):
    assert size_in_words(size, pixels) == words


def test_a_slow_start():
    report = with_steps(run(), _0={"seconds": 5.0})
    text = only(report)  # the other 19: 7 x 1 s + 12 x 0.1 s = 8.2 s, and 19 s uncached
    assert text.startswith("the first step took 5.00 s, the other I-steps 1.00 s") and "2.32x faster" in text
    assert advice(with_steps(run(), _0={"seconds": 1.9})) == ()
    lost = with_steps(run(whole=0.01, p_step=1.0), _0={"seconds": 0.05})  # nothing beside the run's 12 s
    assert not [text for text in advice(lost) if "first step" in text]


def test_the_clock_gains_far_less_than_the_compute():
    text = only(run(p_step=0.6))  # allowed: 20 / 8; got: 19 / (7 + 7.2)
    assert (
        "a P-step computed 0% of the block-tokens, but took 60% of a full step's time" in text
        and "outside the blocks" in text
    )
    assert "P-steps also compute what the predictor has learned (a learned forecast)" in only(
        run(p_step=0.6, learned="a learned forecast")
    )
    # and tokens besides
    assert "outside the blocks" in only(run(p_step=0.6, computed=10, learned="a learned forecast"))
    short = only(run(whole=0.01, p_step=0.006))
    assert "This model's steps are so short (10.0 ms)" in short


def test_the_clock_gains_more_than_the_compute_allows():
    report = run()  # 8 of 20 steps: 2.5x at most; 8 whole steps of 1 s and 12 of 0.1 s take 9.2 s
    text = only(replace(report, plain_seconds=36.8))
    assert text.startswith("the clock says 4.00x, but what was computed allows 2.5x at most") and "Run again" in text
    assert advice(replace(report, plain_seconds=23.0)) == ()  # 2.5x
    assert advice(run(whole=0.01, p_step=0.001, plain_seconds=0.368)) == ()  # too short to be timed


def test_a_better_solver_that_takes_no_longer():
    euler = RunConditions(steps=20, sampler="euler", fresh_noise=False)
    some = "IPIPIPIPIPIIPIPIPIII"  # 12 of 20, at most 1.67 x
    text = only(run(some, p_step=0.0, conditions=euler))  # after the first step: 19 s against 11 s
    assert text.startswith(
        "in the time of this run, dpmpp_2m or uni_pc can take about 12 full steps, which may come as close to the "
        "exact solution as 20 cached steps of euler"
    )
    assert text.count(". ") == 1 and "fewer I-steps" in text
    assert "dpmpp_2m" in only(run(some, p_step=0.0, conditions=replace(euler, sampler="ddim")))
    assert (
        advice(run(some, p_step=0.0, conditions=replace(euler, sampler="dpmpp_2m")))
        == ()
        == advice(run(some, p_step=0.0))
    )
    assert advice(run(conditions=euler)) == ()  # 19 s against 8.2 s: no solver's 9 steps do as well


def test_advice_ends_the_text():
    assert text_with_advice(run("IIPIIP")).splitlines()[-1].startswith("advice: 6 steps are too few")


@pytest.mark.parametrize(
    ("notes", "size"),
    [
        ({"latent": "(4, 16, 64, 32)"}, (64, 32)),
        ({"latent": "(1, 16, 21, 60, 104)"}, (21, 60, 104)),
        ({}, ()),
        ({"latent": "(4, 16)"}, ()),
        ({"latent": "(4, 16, 0, 32)"}, ()),
        ({"latent": "(" + "9" * 99 + ", 4, 8)"}, ()),
        ({"latent": "a cat"}, ()),
    ],
)
def test_a_predictor_knows_the_latents_that_it_was_trained_on(notes, size):
    assert tiny_predictor(notes=notes).trained_on == size
