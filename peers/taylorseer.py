"""TaylorSeer's rule (Liu et al., arXiv 2503.06923) on any model: full steps at even intervals after the first ones, and
plain forecasts between them, by TokenCache's engine without its reach and corrector.

On DiTs the peer `taylorseer` runs diffusers' own code; it hooks into models of diffusers alone.
"""

from __future__ import annotations

from torch import Tensor

from tokencache_core.bench.workload import SampledWorkload
from tokencache_core.schedules.schedule import UniformSchedule
from tokencache_core.settings import CacheSettings

from .peer import ANY_MODEL, Peer, Settings


def run(workload: SampledWorkload, settings: Settings) -> tuple[Tensor, float]:
    order = settings["order"]
    schedule = UniformSchedule(settings["interval"], warmup=order + 1)  # a forecast of order m needs m + 1 steps
    plain = CacheSettings(cache_ratio=1.0, order=order, corrector=0.0, reach=1.0)
    pictures, report = workload.cached(plain, tuple(sorted(schedule.i_steps(workload.taus()))))
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
