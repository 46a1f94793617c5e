"""TaylorSeer's rule (Liu et al., arXiv 2503.06923) on any model: full steps at even intervals after the first ones, and
plain forecasts between them, by TokenCache's engine without its reach and corrector.

On DiTs the peer `taylorseer` runs diffusers' own code; it hooks into models of diffusers alone.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from tokencache_core.bench.workload import SampledWorkload
from tokencache_core.experiments.generality import TAYLORSEER
from tokencache_core.schedules.schedule import UniformSchedule

from .peer import ANY_MODEL, Peer, Settings


def run(workload: SampledWorkload, settings: Settings) -> tuple[Tensor, float]:
    order = settings["order"]
    schedule = UniformSchedule(settings["interval"], warmup=order + 1)  # a forecast of order m needs m + 1 steps
    pictures, report = workload.cached(
        replace(TAYLORSEER, order=order), tuple(sorted(schedule.i_steps(workload.taus())))
    )
    return pictures, report.compute


PEERS = (
    Peer(
        "taylorseer-even",
        "arXiv 2503.06923",
        run,
        knob="interval",
        knobs=tuple(range(1, 13)),
        variants=({"order": 1}, {"order": 2}),
        models=ANY_MODEL,
    ),
)
