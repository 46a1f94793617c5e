"""How far apart I-steps lie when no step is known to matter more than another.

A forecast is a polynomial through the last I-steps, and how far it reaches beyond them, in units of the gaps between
them, decides how much of their error it amplifies (as with every multistep method of variable step; Hairer, Norsett and
Wanner, Solving Ordinary Differential Equations I, III.5). So gaps never grow: where they cannot all be equal the longer
ones come first, 3, 3, 3, 2, 2, 2 and not 3, 2, 3, 2, 3, 2. What the P-steps after the last I-step get wrong, no step
puts right: those are fewer than in other gaps. And a run turns most on its last steps and least on its first: the last gap is a step
shorter, the first one longer. Measured: docs/experiments.md.
"""

from __future__ import annotations

from itertools import accumulate

TAIL = 0.3   # P-steps after the last I-step, as a share of those in a gap, rounded down
SHORT = 2    # no gap so short is shortened


def spread_i_steps(count: int, steps: int, warmup: int = 1) -> tuple[int, ...]:
    """`count` I-steps of a run of `steps`: the first `warmup`, then the others as evenly as can be."""
    first = min(warmup, count, steps)
    others = min(count, steps) - first
    return _spread(first, others, steps, (steps - first) / others) if others else tuple(range(first))


def i_steps_every(interval: int, steps: int, warmup: int = 1) -> tuple[int, ...]:
    """The first `warmup` of a run of `steps`, then as few others as it takes for the gaps to be `interval` at most, the first one more."""
    first = min(warmup, steps)
    if steps - first < interval:
        return tuple(range(first))
    return _spread(first, -(-(_last(steps, interval) - (first - 1)) // interval), steps, interval)


def _last(steps: int, gap: float) -> int:
    return steps - 1 - int(TAIL * (gap - 1))


def _spread(first: int, others: int, steps: int, gap: float) -> tuple[int, ...]:
    """0..first - 1, then `others` more up to the last I-step where they lie about `gap` apart."""
    shortest, longer = divmod(_last(steps, gap) - (first - 1), others)
    gaps = [shortest + 1] * longer + [shortest] * (others - longer)
    if others > 1 and gaps[-1] > SHORT:
        gaps[0] += 1
        gaps[-1] -= 1
    return *range(first - 1), *accumulate(gaps, initial=first - 1)
