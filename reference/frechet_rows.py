"""Chooses the rows of a benchmark's JSON file whose Frechet distances are measured: ours, the best peers and fewer
steps, at some speed-ups.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from peers.host_solvers import host_solvers
from peers.registry import MODULES, peers_named
from tokencache_core.bench.duels import TUNED, around, sweeps, value_at
from tokencache_core.bench.methods import BETTER_SOLVERS, HOST_SOLVERS
from tokencache_core.bench.rows import Row
from tokencache_core.bench.workload import Protocol, SampledWorkload
from tokencache_core.predictor.metadata import read_settings
from tokencache_core.predictor.trained_cache import TrainedCache
from tokencache_core.sampling.sigma_schedule import SigmaSchedule

FEWER_STEPS = ("fewer-steps", *(f"fewer-steps-{solver}" for solver in (*BETTER_SOLVERS, *HOST_SOLVERS)))


@dataclass(frozen=True)
class RowMethod:
    """The method and the settings of one row.

    settings: as JSON.
    """

    name: str
    settings: str

    def __str__(self) -> str:
        return f"{self.name}-{hashlib.sha256(self.settings.encode()).hexdigest()[:8]}"

    def made_with(self, trained: TrainedCache | None) -> str:
        """What determines its samples besides its name: nothing, because the name includes the settings."""
        return ""

    @torch.no_grad()
    def sample(self, work: SampledWorkload, trained: TrainedCache | None) -> Tensor:
        """Samples (B, C, H, W) of a workload, as in the row."""
        settings: dict[str, Any] = json.loads(self.settings)
        if self.name in MODULES:
            (peer, *_) = [peer for peer in peers_named([self.name]) if peer.name == self.name and peer.knob in settings]
            return peer.run(work, settings)[0]
        if "solver" in settings:
            steps, solver = settings["steps"], settings["solver"]
            return (
                host_solvers(work.device)[solver](work, steps) if solver in HOST_SOLVERS else work.full(steps, solver)
            )
        i_steps = tuple(settings.pop("i_steps"))
        return work.cached(read_settings(settings), i_steps)[0]


def chosen_rows(rows: Sequence[Row], speedups: Sequence[float], best: int, nearest: bool = False) -> list[int]:
    """The indices of the rows to measure at each speed-up: of our sweep and presets, of the best peers, and of the best
    solvers with fewer steps.

    A sweep seldom has a row at exactly this speed-up, so the two rows of its frontier on either side are chosen,
    between which distances are interpolated, as PSNR is.

    best: the number of peers, and of solvers, by PSNR at the speed-up.
    nearest: choose only the row whose speed-up is nearer.
    """
    found = sweeps(rows)
    chosen: dict[int, None] = {}
    for speedup in speedups:

        def db(name: str, speedup: float = speedup) -> float:
            return value_at(found[name], speedup) or 0.0

        others = [
            sorted((name for name in found if name in group), key=db, reverse=True)[:best]
            for group in (MODULES, FEWER_STEPS)
        ]
        for name in ("tokencache", TUNED, *chain(*others)):
            either_side = (around(found[name], speedup) if name in found else None) or ()
            for near in _nearest(either_side, speedup) if nearest else either_side:
                chosen[next(index for index, row in enumerate(rows) if row is near)] = None
    return list(chosen)


def _nearest(rows: Sequence[Row], speedup: float) -> list[Row]:
    """The row, if there is any, whose speed-up is nearest by ratio."""
    return sorted(rows, key=lambda row: abs(math.log(row.speedup / speedup)))[:1]


def method_of(row: Row) -> RowMethod:
    return RowMethod(row.method, json.dumps(row.settings, sort_keys=True))


def protocol_of(about: dict[str, Any]) -> Protocol:
    """What was sampled, from the benchmark's own account of it."""
    schedule = SigmaSchedule(about["schedule"], about["shift"])
    return Protocol(steps=about["steps"], solver=about["solver"], cfg=about["cfg"], schedule=schedule)
