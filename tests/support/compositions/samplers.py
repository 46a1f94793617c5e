"""Every sampler and every scheduler that the host offers: on a tiny DiT all of them, on other models some."""

from __future__ import annotations

from collections.abc import Sequence

from comfy.samplers import SAMPLER_NAMES, SCHEDULER_NAMES
from tiny_families.tiny_model import TinyModel
from torch import Tensor

from .cell import CELLS, Apply, Cell, Composition
from .models import REFERENCE

FLOW = "Flux 1"
PAIRS = {
    "DiT": [
        *((sampler, "simple") for sampler in SAMPLER_NAMES),
        *((sampler, scheduler) for sampler in ("euler", "dpmpp_2m") for scheduler in SCHEDULER_NAMES[1:]),
    ],
    FLOW: [
        *((sampler, "simple") for sampler in SAMPLER_NAMES[::4]),
        *(("euler", scheduler) for scheduler in SCHEDULER_NAMES[1:]),
    ],
    REFERENCE: [("euler", "simple"), ("dpmpp_2m", "karras"), ("uni_pc", "beta"), ("heun", "simple")],
}


def by_name(sampler: str, scheduler: str) -> Composition:
    def run(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
        return [tiny.sample(apply(tiny.model), steps=steps, sampler=sampler, scheduler=scheduler)]

    return run


CELLS += [
    Cell("samplers and schedulers", f"{sampler}, {scheduler}", model, by_name(sampler, scheduler))
    for model, pairs in PAIRS.items()
    for sampler, scheduler in pairs
]
