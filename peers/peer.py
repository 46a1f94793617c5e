"""What the benchmark must know about a peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tokencache_core.bench.workload import SampledWorkload, Workload

Settings = dict[str, Any]
DITS = Workload
ANY_MODEL = SampledWorkload


@dataclass(frozen=True)
class Peer:
    """A caching method by others.

    name: in the benchmark's table.
    source: paper or package, for the table's legend.
    run: samples a workload under settings; gives pictures (B, C, H, W) and the share of the full run's block-token
        evaluations that were computed. It restores the model, also after an error.
    knob: the setting that trades likeness for speed.
    knobs: its values, the gentlest first; the first changes nothing or next to nothing.
    variants: the other settings, each with a sweep of its own.
    baseline: the method of the full run to compare with, if it is not the benchmark's own.
    models: the class of the workloads that it can sample.
    """

    name: str
    source: str
    run: Callable[[Any, Settings], tuple[Tensor, float]]
    knob: str
    knobs: tuple[Any, ...]
    variants: tuple[Settings, ...] = ({},)
    baseline: str = "full"
    models: type[SampledWorkload] = DITS
