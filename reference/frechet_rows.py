"""Chooses the rows of a benchmark's JSON file whose Frechet distances are measured: ours, the best peers and fewer
steps, at some speed-ups.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from peers.registry import MODULES, peers_named
from tokencache_core.bench.duels import TUNED, around, sweeps, value_at
from tokencache_core.bench.rows import Row
from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.dit.model import DiT
from tokencache_core.dit.sampling import cached_sample, sample
from tokencache_core.predictor.metadata import read_settings
from tokencache_core.predictor.trained_cache import TrainedCache
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.schedules.schedule import ExplicitSchedule

FEWER_STEPS = ("fewer-steps", "fewer-steps-dpmpp_2m", "fewer-steps-res_multistep")


@dataclass(frozen=True)
class RowMethod:
    """The method and the settings of one row.

    settings: as JSON.
    protocol: its steps and solver.
    """

    name: str
    settings: str
    protocol: Protocol

    def __str__(self) -> str:
        return f"{self.name}-{hashlib.sha256(self.settings.encode()).hexdigest()[:8]}"

    def made_with(self, trained: TrainedCache | None) -> str:
        """What determines its samples besides its name: nothing, because the name includes the settings."""
        return ""

    def sample(self, model: DiT, labels: Tensor, noise: Tensor, cfg: float, trained: TrainedCache | None) -> Tensor:
        """Samples (B, C, H, W) as in the row, except for labels (B,), noise and guidance `cfg`."""
        settings: dict[str, Any] = json.loads(self.settings)
        protocol = self.protocol
        if self.name in MODULES:
            (peer, *_) = [peer for peer in peers_named([self.name]) if peer.name == self.name and peer.knob in settings]
            workload = Workload(model, replace(protocol, samples=len(labels), cfg=cfg))
            workload.labels, workload.noise = labels, noise
            return peer.run(workload, settings)[0]
        inputs: dict[str, Any] = {"noise": noise, "cfg": cfg}
        if "solver" in settings:
            return sample(model, labels, sigmas=simple_sigmas(settings["steps"]), solver=settings["solver"], **inputs)
        schedule = ExplicitSchedule(tuple(settings.pop("i_steps")))
        return cached_sample(
            model,
            labels,
            sigmas=simple_sigmas(protocol.steps),
            solver=protocol.solver,
            settings=read_settings(settings),
            schedule=schedule,
            **inputs,
        )[0]


def chosen_rows(rows: Sequence[Row], speedups: Sequence[float], best: int, nearest: bool = False) -> list[int]:
    """The indices of the rows to measure at each speed-up: of our sweep and presets, of the best peers, and of the best
    solver with fewer steps.

    A sweep seldom has a row at exactly this speed-up, so the two rows of its frontier on either side are chosen,
    between which distances are interpolated, as PSNR is.

    best: the number of peers, by PSNR at the speed-up.
    nearest: choose only the row whose speed-up is nearer.
    """
    found = sweeps(rows)
    chosen: dict[int, None] = {}
    for speedup in speedups:

        def db(name: str, speedup: float = speedup) -> float:
            return value_at(found[name], speedup) or 0.0

        peers = sorted((name for name in found if name in MODULES), key=db, reverse=True)[:best]
        fewer = max((name for name in FEWER_STEPS if name in found), key=db, default=None)
        for name in ("tokencache", TUNED, *peers, *([fewer] if fewer else [])):
            either_side = (around(found[name], speedup) if name in found else None) or ()
            for near in _nearest(either_side, speedup) if nearest else either_side:
                chosen[next(index for index, row in enumerate(rows) if row is near)] = None
    return list(chosen)


def _nearest(rows: Sequence[Row], speedup: float) -> list[Row]:
    """The row, if there is any, whose speed-up is nearest by ratio."""
    return sorted(rows, key=lambda row: abs(math.log(row.speedup / speedup)))[:1]


def method_of(row: Row, protocol: dict[str, Any]) -> RowMethod:
    ran = Protocol(steps=protocol["steps"], solver=protocol["solver"])
    return RowMethod(row.method, json.dumps(row.settings, sort_keys=True), ran)
