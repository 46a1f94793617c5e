"""The verdict on a run: whether caching can be worthwhile for this model, its steps and its sampler, as far as one
whole run shows.

It shows how much updates change from step to step, the errors that forecasts would have made (redundancy/replay.py),
and the largest possible saving for a number of I-steps (redundancy/block_clock.py). It does not show the effect of the
errors on the picture, or which order is best for it; that takes runs with the cache, such as those of Tune TokenCache.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .block_clock import BlockClock
from .measure import Redundancy
from .replay import Replayed, replays

# Relative errors of updates, with the best order. On the reference DiT (ddim and dpmpp_2m, 10 to 50 steps, every token
# forecast), schedules with errors up to NEAR stayed above 36 dB against the whole run, those beyond FAR below 29 dB.
# That is one model: in between, and for any other model, a run with the cache decides.
NEAR, FAR = 0.1, 0.2
FEW_STEPS = 8  # with fewer, a run has hardly any P-steps between its first I-steps and its last
LITTLE = 1.3  # a speed-up that is not worth an error
TUNE = "Tune TokenCache tests with real runs what the cache does to the picture."


def text(found: Redundancy) -> str:
    """The verdict, followed by what it is based on."""
    clock, replayed = BlockClock.of(found.clocks), replays(found.kept_taus, found.kept)
    steps = len(found.kept_taus)
    return "\n".join(
        [
            verdict(steps, replayed, clock, float(found.change.mean())),
            measured(found.similarity, found.change),
            *table(replayed),
            clock.text(),
        ]
    )


def verdict(steps: int, replayed: Sequence[Replayed], clock: BlockClock, change: float) -> str:
    """The verdict in plain words.

    steps: number of steps of the run.
    replayed: replayed schedules, by rising interval.
    change: mean relative change of updates from step to step.
    """
    known = f"updates change by {change:.1%} a step"
    near = [each for each in replayed if each.error <= NEAR]
    if steps < FEW_STEPS or not replayed:
        also = ", and updates change too much" if replayed and not near else ""
        return (
            f"Verdict: {steps} steps are too few{also}: caching will show, or save little. "
            f"{known[0].upper()}{known[1:]}. Use {FEW_STEPS} steps or more and measure again."
        )
    if near:
        best = near[-1]
        gain = clock.most_speedup(steps, best.i_steps)
        if gain < LITTLE:
            return (
                f"Verdict: {known}, but there is little to gain: {_gain(best, clock)}. Use more steps, larger "
                "pictures or larger batches."
            )
        return (
            f"Verdict: {known}: P-steps can pay. With an I-step every {best.interval} steps ({best.i_steps} of "
            f"{steps}), forecasts would have been {best.error:.1%} off; expect {_gain(best, clock)}. {TUNE}"
        )
    shortest = replayed[0]
    off = f"even with an I-step every {shortest.interval} steps, forecasts would have been {shortest.error:.0%} off"
    if shortest.error > FAR:
        return (
            f"Verdict: {known}, which is too much: {off}, and caching will show. More steps, or a sampler that "
            "adds no noise, reduce the change."
        )
    return f"Verdict: {known}: {off}. Whether that shows, this measure does not tell. {TUNE}"


def measured(similarity: Tensor, change: Tensor) -> str:
    """The measured similarity and change, (steps - 1, blocks), as text."""
    blocks, steps = change.mean(dim=0), change.mean(dim=1)
    return (
        f"updates from one step to the next, means over tokens: cosine {float(similarity.mean()):.4f}, change "
        f"{float(change.mean()):.1%} of their length; by block from {float(blocks.min()):.1%} (block "
        f"{int(blocks.argmin()) + 1}) to {float(blocks.max()):.1%} (block {int(blocks.argmax()) + 1}), "
        f"by step from {float(steps.min()):.1%} to {float(steps.max()):.1%}"
    )


def table(replayed: Sequence[Replayed]) -> list[str]:
    """The replayed schedules as text, one line each."""
    if not replayed:
        return []
    lines = [
        f"- every {each.interval} ({each.i_steps} of {each.steps} I-steps): "
        f"{', '.join(f'order {order} {error:.1%}' for order, error in enumerate(each.errors))}"
        for each in replayed
    ]
    return ["errors that forecasts of the updates would have made, with an I-step", *lines]


def _gain(best: Replayed, clock: BlockClock) -> str:
    gain = f"at most about {clock.most_speedup(best.steps, best.i_steps):.1f}x at {best.i_steps} I-steps"
    outside = (
        "less because of the time outside the blocks, which is not known here"
        if clock.inside is None
        else "by the timing of this run"
    )
    return f"{gain} ({outside}; every token forecast)"
