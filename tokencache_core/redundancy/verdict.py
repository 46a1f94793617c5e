"""The verdict on a run: whether caching can be worthwhile for this model, its steps and its sampler, as far as one
full run shows.

It shows how much updates change from step to step, the errors that forecasts would have made (redundancy/replay.py),
and the largest possible saving for a number of I-steps (redundancy/block_clock.py). It does not show the effect of the
errors on the picture, or which order is best for it; that takes runs with the cache, such as those of Tune TokenCache.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..words.message import joined, lines, say
from .block_clock import BlockClock
from .measure import Redundancy
from .replay import Replayed, replays

# Relative errors of updates, with the best order. On the reference DiT (ddim and dpmpp_2m, 10 to 50 steps, every token
# forecast), schedules with errors up to NEAR stayed above 36 dB against the full run, those beyond FAR below 29 dB.
# That is one model: in between, and for any other model, a run with the cache decides.
NEAR, FAR = 0.1, 0.2
FEW_STEPS = 8  # with fewer, a run has hardly any P-steps between its first I-steps and its last
LITTLE = 1.3  # a speed-up that is not worth an error
TUNE = say("verdict_tune", "Tune TokenCache tests with real runs what the cache does to the picture.")


def text(found: Redundancy) -> str:
    """The verdict, followed by what it is based on."""
    clock, replayed = BlockClock.of(found.clocks), replays(found.kept_taus, found.kept)
    steps = len(found.kept_taus)
    return lines(
        verdict(steps, replayed, clock, float(found.change.mean())),
        measured(found.similarity, found.change),
        *table(replayed),
        clock.text(),
    )


def verdict(steps: int, replayed: Sequence[Replayed], clock: BlockClock, change: float) -> str:
    """The verdict in plain words.

    steps: number of steps of the run.
    replayed: replayed schedules, by rising interval.
    change: mean relative change of updates from step to step.
    """
    percent = f"{change:.1%}"
    near = [each for each in replayed if each.error <= NEAR]
    if steps < FEW_STEPS or not replayed:
        if replayed and not near:
            return say(
                "verdict_few_and_much",
                "Verdict: {steps} steps are too few, and updates change too much: caching would be visible or save "
                "little. Updates change by {change} per step. Use {few} steps or more and measure again.",
                steps=steps,
                change=percent,
                few=FEW_STEPS,
            )
        return say(
            "verdict_few",
            "Verdict: {steps} steps are too few: caching would be visible or save little. Updates change by {change} "
            "per step. Use {few} steps or more and measure again.",
            steps=steps,
            change=percent,
            few=FEW_STEPS,
        )
    if near:
        best = near[-1]
        gain = clock.most_speedup(steps, best.i_steps)
        if gain < LITTLE:
            return say(
                "verdict_little",
                "Verdict: updates change by {change} per step, but there is little to gain: {gain}. Use more steps, "
                "larger pictures or larger batches.",
                change=percent,
                gain=_gain(best, clock),
            )
        return say(
            "verdict_pays",
            "Verdict: updates change by {change} per step: caching can pay off. With an I-step every {interval} "
            "steps ({i_steps} of {steps}), forecasts would have been {error} off, for {gain}. Fewer I-steps are faster "
            "and less exact. {tune}",
            change=percent,
            interval=best.interval,
            i_steps=best.i_steps,
            steps=steps,
            error=f"{best.error:.1%}",
            gain=_gain(best, clock),
            tune=TUNE,
        )
    shortest = replayed[0]
    error = f"{shortest.error:.0%}"
    if shortest.error > FAR:
        return say(
            "verdict_too_much",
            "Verdict: updates change by {change} per step, which is too much: even with an I-step every {interval} "
            "steps, forecasts would have been {error} off, and caching would be visible. More steps, or a sampler "
            "that adds no noise, reduce the change.",
            change=percent,
            interval=shortest.interval,
            error=error,
        )
    return say(
        "verdict_open",
        "Verdict: updates change by {change} per step: even with an I-step every {interval} steps, forecasts would "
        "have been {error} off. This measurement cannot tell whether that is visible. {tune}",
        change=percent,
        interval=shortest.interval,
        error=error,
        tune=TUNE,
    )


def measured(similarity: Tensor, change: Tensor) -> str:
    """The measured similarity and change, (steps - 1, blocks), as text."""
    blocks, steps = change.mean(dim=0), change.mean(dim=1)
    return say(
        "redundancy_measured",
        "updates change by {change} of their length from one step to the next (cosine {cosine}; means over tokens): "
        "by block from {least} (block {first}) to {most} (block {second}), by step from {calm} to {restless}",
        cosine=f"{float(similarity.mean()):.4f}",
        change=f"{float(change.mean()):.1%}",
        least=f"{float(blocks.min()):.1%}",
        first=int(blocks.argmin()) + 1,
        most=f"{float(blocks.max()):.1%}",
        second=int(blocks.argmax()) + 1,
        calm=f"{float(steps.min()):.1%}",
        restless=f"{float(steps.max()):.1%}",
    )


def table(replayed: Sequence[Replayed]) -> list[str]:
    """The replayed schedules as text, one line each."""
    if not replayed:
        return []
    rows = [
        say(
            "redundancy_row",
            "- every {interval} ({i_steps} of {steps} I-steps): {errors}",
            interval=each.interval,
            i_steps=each.i_steps,
            steps=each.steps,
            errors=joined(
                ", ",
                [
                    say("redundancy_order", "order {order} {error}", order=order, error=f"{error:.1%}")
                    for order, error in enumerate(each.errors)
                ],
            ),
        )
        for each in replayed
    ]
    return [say("redundancy_table", "how far off forecasts of the updates would have been, with an I-step"), *rows]


def _gain(best: Replayed, clock: BlockClock) -> str:
    values = {"gain": f"{clock.most_speedup(best.steps, best.i_steps):.1f}", "i_steps": best.i_steps}
    if clock.inside is None:
        return say(
            "gain_less",
            "at most about {gain}x with {i_steps} I-steps if every token is forecast (less by the time spent outside "
            "the blocks, which is not known here)",
            **values,
        )
    return say(
        "gain_timed",
        "at most about {gain}x with {i_steps} I-steps if every token is forecast, by this run's timing",
        **values,
    )
