"""Chooses a peer's settings for the benchmark: for each speed-up to aim at, the knob with the matching compute share.

It is found by bisection on one sample, because the effect of a threshold depends on the model. Some peers take longer
than their share suggests, so every sweep goes beyond the fastest speed-up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tokencache_core.bench.turns import Candidate
from tokencache_core.bench.workload import SampledWorkload, workload_of

from .peer import Peer, Settings

SEARCH_SAMPLES = 1
BEYOND = 1.6  # times the fastest speed-up


def candidates_of(peer: Peer, workload: SampledWorkload, full_step: float) -> list[Candidate]:
    """One candidate per setting, the gentlest first. full_step: seconds of an unpatched step of the workload."""
    protocol = workload.protocol
    print(f"planning {peer.name} ...", file=sys.stderr, flush=True)
    few = workload_of(workload.sampled, replace(protocol, samples=SEARCH_SAMPLES))
    found: list[Candidate] = []
    for variant in peer.variants:
        shares: dict[int, float] = {}

        def share(index: int, variant: Settings = variant, shares: dict[int, float] = shares) -> float:
            if index not in shares:
                shares[index] = peer.run(few, {**variant, peer.knob: peer.knobs[index]})[1]
            return shares[index]

        chosen = {
            _nearest(share, len(peer.knobs), 1 / speedup)
            for speedup in (*protocol.speedups, BEYOND * max(protocol.speedups))
        }
        if all(isinstance(knob, int) for knob in peer.knobs):
            chosen |= lone_gaps(chosen)
        for index in sorted(chosen):
            settings = {**variant, peer.knob: peer.knobs[index]}
            seconds = share(index) * protocol.steps * full_step
            run = partial(peer.run, workload, settings)
            found.append(Candidate(peer.name, settings, run, seconds, baseline=peer.baseline))
    return found


def lone_gaps(chosen: set[int]) -> set[int]:
    """The indices that lie alone between two of `chosen`.

    With whole numbers a peer moves in large steps, and a frontier that skips one would underrate it.
    """
    return {index + 1 for index in chosen if index + 2 in chosen} - chosen


def _nearest(share: Callable[[int], float], count: int, wanted: float) -> int:
    """The index, below `count`, whose compute share is nearest to `wanted`; shares fall with the index."""
    low, high = 0, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if share(middle) > wanted else (low, middle)
    return min((low, high), key=lambda index: abs(share(index) - wanted))
