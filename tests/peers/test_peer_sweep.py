"""A peer's sweep: the settings that promise the speed-ups aimed at, and none of a peer's few whole numbers passed
over.
"""

from __future__ import annotations

import torch
from tiny_dit import tiny_dit
from torch import Tensor

from peers.peer import Peer, Settings
from peers.sweep import candidates_of, lone_gaps
from tokencache_core.bench.workload import Protocol, Workload


def by_interval(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    """Computes every `interval`-th step, as far as its share tells."""
    return torch.zeros(1), 1 / settings["interval"]


def intervals(*knobs: float, speedups: tuple[float, ...]) -> list[float]:
    peer = Peer("every-nth", "here", by_interval, knob="interval", knobs=knobs)
    workload = Workload(tiny_dit(), Protocol(steps=2, samples=1, speedups=speedups))
    return [candidate.settings["interval"] for candidate in candidates_of(peer, workload, full_step=1.0)]


def test_a_setting_is_chosen_for_each_speed_up_and_one_beyond():
    assert intervals(1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, speedups=(1.5, 3, 6)) == [1.5, 3.0, 6.0, 10.0]


def test_a_whole_number_alone_between_two_chosen_is_measured_too():
    assert intervals(*range(1, 13), speedups=(2, 4, 5, 7)) == [2, 3, 4, 5, 6, 7, 11]


def test_only_what_lies_alone_is_a_lone_gap():
    assert lone_gaps({1, 3, 4, 7, 9}) == {2, 8}
    assert lone_gaps({0, 1, 2}) == set()
