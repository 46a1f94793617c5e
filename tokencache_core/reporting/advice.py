"""Advice on a finished run, in plain words: why it was not faster, or less similar to the uncached run, and what to do
about it.
"""

from __future__ import annotations

import math
from statistics import median

from ..engine.record import Report, StepRecord, size_in_words
from ..engine.session import MOVING_WINDOWS
from ..words.message import lines, say

FEW_STEPS = 12  # up to this number, more steps help, but another schedule does not
LITTLE_GAIN = 1.6  # largest speed-up of a schedule that makes nearly all steps I-steps
MUCH_COMPUTED = 0.8  # share of P-steps' block-tokens above which they compute too many
FAR_BELOW = 0.7  # share of the speed-up that compute allows, below which a run is slow
TOO_FAST = 1.15  # share of that speed-up from which the clock is wrong, as in likeness/comparison.py
SHORT_RUN_TIME = 1.0  # seconds; the times of shorter runs vary too much
LITTLE_ALLOWED = 1.2  # speed-up that compute allows, below which the clock is not judged by it
SEVERAL = 1.5  # evaluations per step from which a sampler evaluates several times a step
SHORT_STEP = 0.02  # seconds; in shorter steps, the host's work around the blocks matters
SLOW_START = 2.0  # a slow first step, in units of another I-step's time
NOTICED = 0.05  # share of a run's time above which a slow start matters
OTHER_SIZE = 1.1  # ratio of token numbers above which two sizes are different
# speed-up up to which a better solver's full steps may come as close to the exact solution in the same time
# (docs/findings/solvers.md)
AS_FAST = 1.7
ENOUGH_STEPS = 12  # smallest number of full steps for which that holds
SHORT_RUN = range(16, 36)  # numbers of steps that most people sample, of which 20 was measured
MOST_IN_A_SHORT_RUN = 2.6  # speed-up beyond which likeness was lost there
FIRST_ORDER = ("euler", "ddim")
FAR_FROM_ITS_SIZE = 1.5  # ratio of token numbers above which a size is far from the model's own


def advice(report: Report) -> tuple[str, ...]:
    """A short text for each problem, the most important first; empty if there are none."""
    rules = (
        _far_from_the_models_size,
        _hardly_any_p_steps,
        _few_steps,
        _faster_than_few_steps_bear,
        _p_steps_that_compute_much,
        _misses,
        _several_evaluations,
        _fresh_noise,
        _trained_at_another_size,
        _slow_start,
        _slower_than_its_compute,
        _faster_than_its_compute,
        _a_better_solver_takes_no_longer,
    )
    return tuple(text for text in (rule(report) for rule in rules) if text)


def text_with_advice(report: Report) -> str:
    """The report as text, followed by the advice."""
    return lines(report.text(), *(say("advice", "advice: {text}", text=text) for text in advice(report)))


def _hardly_any_p_steps(report: Report) -> str:
    steps, i_steps = _steps(report), _i_steps(report)
    gain = steps / i_steps
    if gain > LITTLE_GAIN or report.teaches:
        return ""
    if steps == 1:
        return say("advice_one_step", "1 step is too few to cache. Use 20 steps or more.")
    if steps <= FEW_STEPS:
        return say(
            "advice_too_few_steps",
            "{steps} steps are too few to cache: {i_steps} of them were I-steps, which are computed in full, so the "
            "run can be at most {gain}x as fast. Use 20 steps or more, or leave TokenCache out.",
            steps=steps,
            i_steps=i_steps,
            gain=f"{gain:.1f}",
        )
    return say(
        "advice_little_to_cache",
        "the schedule leaves little to cache: {i_steps} of {steps} steps were I-steps, which are computed in full, "
        "so the run can be at most {gain}x as fast. Raise speed_up in Apply TokenCache, or use a longer interval or "
        "fewer I-steps in I-Step Scheduler.",
        steps=steps,
        i_steps=i_steps,
        gain=f"{gain:.1f}",
    )


def _few_steps(report: Report) -> str:
    steps = _steps(report)
    if steps > FEW_STEPS or not _of_kind(report, "P") or _hardly_any_p_steps(report):
        return ""
    return say(
        "advice_few_steps",
        "{steps} steps are few to cache: the model's prediction changes a lot from one step to the next, so a "
        "forecast of it may be far off. Use 20 steps or more, or look closely at the picture.",
        steps=steps,
    )


def _faster_than_few_steps_bear(report: Report) -> str:
    """For 20 to 30 steps, from what was measured at 20 (docs/findings/places.md)."""
    steps = _steps(report)
    gain = steps / _i_steps(report)
    if steps not in SHORT_RUN or gain <= MOST_IN_A_SHORT_RUN or not _of_kind(report, "P"):
        return ""
    return say(
        "advice_too_fast_for_short_run",
        "If the picture differs too much, set speed_up to 2 in Apply TokenCache: {i_steps} full steps of {steps} are "
        "few ({gain}x). On our models 20 steps kept 36 to 41 dB at 2x, 31 to 39 dB at 2.5x and 27 to 35 dB at 3.3x.",
        steps=steps,
        i_steps=_i_steps(report),
        gain=f"{gain:.1f}",
    )


def _p_steps_that_compute_much(report: Report) -> str:
    seen = [step for step in _of_kind(report, "P") if step.available]
    if not seen or any(step.misses for step in seen):
        return ""
    share = sum(step.computed for step in seen) / sum(step.available for step in seen)
    if share <= MUCH_COMPUTED:
        return ""
    return say(
        "advice_p_steps_compute_much",
        "P-steps computed {share} of the block-tokens, nearly as much as I-steps do. Raise cache_ratio or lower "
        "last_blocks in Apply TokenCache.",
        share=f"{share:.0%}",
    )


def _misses(report: Report) -> str:
    missed = [step for step in report.steps if step.misses]
    if not missed or MOVING_WINDOWS in report.notes:
        return ""
    calls, places = sum(step.misses for step in missed), sorted({step.index for step in missed})
    listed = ", ".join(map(str, places[:8])) + (", ..." if len(places) > 8 else "")
    found = (
        say(
            "advice_one_miss",
            "1 call of the model on a P-step found nothing in the cache and was computed in full (at step {steps}, "
            "counted from 0)",
            steps=listed,
        )
        if calls == 1
        else say(
            "advice_misses",
            "{calls} calls of the model on P-steps found nothing in the cache and were computed in full (at steps "
            "{steps}, counted from 0)",
            calls=calls,
            steps=listed,
        )
    )
    return say(
        "advice_on_misses",
        "{found}: conditionings or areas changed during the run. Make them change on an I-step: with the policy "
        "explicit, I-Step Scheduler takes a list of I-steps.",
        found=found,
    )


def _several_evaluations(report: Report) -> str:
    steps, calls = _steps(report), len(report.steps)
    if calls < SEVERAL * steps:
        return ""
    said = {"sampler": _sampler(report), "times": _times(calls / steps), "calls": calls, "steps": steps}
    if report.conditions.fresh_noise:
        return say(
            "advice_several_evaluations",
            "{sampler} calls the model {times} per step: {calls} evaluations for {steps} steps, and on I-steps all "
            "of them are computed in full. In the same time, euler, ddim or dpmpp_2m, which call it once, can take "
            "more steps.",
            **said,
        )
    return say(
        "advice_first_evaluation",
        "{sampler} calls the model {times} per step: {calls} evaluations for {steps} steps. On I-steps only the "
        "first of them is computed in full, so more I-steps cost little: lower speed_up in Apply TokenCache. With "
        "heun, 12 I-steps in 20 steps came far closer than 8.",
        **said,
    )


def _fresh_noise(report: Report) -> str:
    if not report.conditions.fresh_noise or not _of_kind(report, "P"):
        return ""
    return say(
        "advice_fresh_noise",
        "{sampler} adds fresh noise on every step, which no forecast can predict. The result is usually closer "
        "than with fewer steps, but much less close than with a sampler that adds none (euler, ddim, dpmpp_2m). "
        "Use one of those, or lower speed_up in Apply TokenCache.",
        sampler=_sampler(report),
    )


def _trained_at_another_size(report: Report) -> str:
    trained, run = report.conditions.trained_on, report.latent.size
    if not _differ(trained, run, OTHER_SIZE):
        return ""
    pixels = report.conditions.pixels
    return say(
        "advice_trained_at_another_size",
        "the predictor was trained at {trained}, but this run is {run}. Train one at this size, or compare with a "
        "run without a predictor.",
        trained=size_in_words(trained, pixels),
        run=size_in_words(run, pixels),
    )


def _far_from_the_models_size(report: Report) -> str:
    size, run = report.conditions.model_size, report.latent.size
    if not _differ(size, run, FAR_FROM_ITS_SIZE):
        return ""
    pixels = report.conditions.pixels
    return say(
        "advice_far_from_the_models_size",
        "this model was trained at {own} only, but this run is {run}: its pictures fall apart there even without the "
        "cache. Use an empty latent of {own}.",
        own=size_in_words(size, pixels),
        run=size_in_words(run, pixels),
    )


def _slow_start(report: Report) -> str:
    first, others = report.steps[0], [step.seconds for step in _of_kind(report, "I")[1:]]
    if (
        not others
        or first.seconds <= SLOW_START * median(others)
        or first.seconds - median(others) <= NOTICED * report.seconds
    ):
        return ""
    return say(
        "advice_slow_start",
        "the first step took {first} s, the other I-steps {others} s: it includes loading or compiling, and so does "
        "the speed-up shown. From the second step on, the run was {speedup}x faster than uncached; run again with "
        "another seed to see that.",
        first=f"{first.seconds:.2f}",
        others=f"{median(others):.2f}",
        speedup=f"{_speedup_after_the_first(report):.2f}",
    )


def _slower_than_its_compute(report: Report) -> str:
    p_steps, whole = _of_kind(report, "P"), report.whole_step_seconds
    allowed = 1 / report.compute if report.compute else math.inf
    if not p_steps or allowed < LITTLE_ALLOWED or _speedup_after_the_first(report) >= FAR_BELOW * allowed:
        return ""
    share = median(step.compute for step in p_steps)
    known = say(
        "advice_slower_than_its_compute",
        "the clock gains less than the share computed allows: a P-step computed {share} of the block-tokens, but "
        "took {time} of a full step's time",
        share=f"{share:.0%}",
        time=f"{median(step.seconds for step in p_steps) / whole:.0%}",
    )
    if whole < SHORT_STEP:
        return say(
            "advice_short_steps",
            "{known}. This model's steps are so short ({milliseconds} ms) that the work around the blocks dominates. "
            "Larger pictures or batches gain more.",
            known=known,
            milliseconds=f"{whole * 1000:.1f}",
        )
    if report.learned and not share:
        return say(
            "advice_learned_parts_take_time",
            "{known}: P-steps also compute what the predictor has learned ({learned}), which weighs more in a small "
            "model. Without a predictor, P-steps are faster and less exact; Compare with and without TokenCache "
            "shows both.",
            known=known,
            learned=report.learned,
        )
    return say(
        "advice_time_outside_of_blocks",
        "{known}: much of the time is spent outside the blocks (ControlNet, patches of other nodes, moving memory "
        "back and forth) or in gathering tokens. With cache_ratio 1 and last_blocks 0, P-steps do the least work; "
        "remove other nodes that patch the model to see how much time they take.",
        known=known,
    )


def _faster_than_its_compute(report: Report) -> str:
    too_short = report.seconds < SHORT_RUN_TIME
    if too_short or not _of_kind(report, "P") or report.speedup * report.compute <= TOO_FAST:
        return ""
    return say(
        "advice_faster_than_its_compute",
        "the clock says {speedup}x, but what was computed allows {most}x at most: the time that this run is compared "
        "with includes other work, such as loading the model. Run again when the machine is quiet.",
        speedup=f"{report.speedup:.2f}",
        most=f"{1 / report.compute:.1f}",
    )


def _a_better_solver_takes_no_longer(report: Report) -> str:
    steps, sampler = _steps(report), report.conditions.sampler
    whole_steps = round(steps / _speedup_after_the_first(report))
    if (
        sampler not in FIRST_ORDER
        or not _of_kind(report, "P")
        or not ENOUGH_STEPS <= whole_steps < steps
        or steps > AS_FAST * whole_steps
    ):
        return ""
    return say(
        "advice_a_better_solver",
        "in the time of this run, dpmpp_2m or uni_pc can take about {whole} full steps, which may come as close to "
        "the exact solution as {steps} cached steps of {sampler}. Unless you want exactly the picture of {steps} "
        "full steps of {sampler}, try those, or use fewer I-steps.",
        whole=whole_steps,
        steps=steps,
        sampler=sampler,
    )


def _differ(size: tuple[int, ...], run: tuple[int, ...], times: float) -> bool:
    """Whether one latent size has more than `times` as many elements as the other; False if they are not comparable."""
    if not size or len(size) != len(run):
        return False
    more = math.prod(run) / math.prod(size)
    return not 1 / times <= more <= times


def _of_kind(report: Report, kind: str) -> list[StepRecord]:
    return [step for step in report.steps if step.kind == kind]


def _i_steps(report: Report) -> int:
    """The number of steps that were I-steps."""
    return len({step.index for step in _of_kind(report, "I")})


def _steps(report: Report) -> int:
    """The number of steps of the sampler's schedule, or of evaluated steps if that is not known."""
    return report.conditions.steps or len({step.index for step in report.steps})


def _speedup_after_the_first(report: Report) -> float:
    """The estimated speed-up of all evaluations but the first."""
    rest = sum(step.seconds for step in report.steps[1:])
    return (len(report.steps) - 1) * report.whole_step_seconds / rest if rest else 1.0


def _sampler(report: Report) -> str:
    name = report.conditions.sampler
    return (
        say("this_sampler_named", "this sampler ({name})", name=name) if name else say("this_sampler", "this sampler")
    )


def _times(ratio: float) -> str:
    return say("twice", "twice") if round(ratio) == 2 else say("times", "{count} times", count=f"{ratio:.0f}")
