"""A peer's settings for the benchmark: for each of the speed-ups aimed at, the knob whose compute share promises it.

Found by bisection on one sample, since what a threshold does depends on the model. Some take longer than their share
promises, so every sweep goes on beyond the fastest speed-up aimed at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tokencache_core.bench.turns import Candidate
from tokencache_core.bench.workload import Workload

from .peer import Peer, Settings

SEARCH_SAMPLES = 1
BEYOND = 1.6  # times the fastest


def candidates_of(peer: Peer, workload: Workload, full_step: float) -> list[Candidate]:
    """One candidate a setting, the gentlest first. full_step: seconds of an unpatched step of the workload."""
    protocol = workload.protocol
    print(f"laying out {peer.name} ...", file=sys.stderr, flush=True)
    few = Workload(workload.model, replace(protocol, samples=SEARCH_SAMPLES))
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
    """What lies alone between two of `chosen`. A whole number moves a peer in large steps, and a frontier drawn past
    one belittles it.
    """
    return {index + 1 for index in chosen if index + 2 in chosen} - chosen


def _nearest(share: Callable[[int], float], count: int, wanted: float) -> int:
    """The index whose compute share is nearest to `wanted`, among falling ones."""
    low, high = 0, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if share(middle) > wanted else (low, middle)
    return min((low, high), key=lambda index: abs(share(index) - wanted))
