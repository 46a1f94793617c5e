"""The verdict on a cell of the composition matrix: what Apply TokenCache does there, and whether its report says so."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from comfy.model_patcher import ModelPatcher
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.tokencache_core.engine.record import Report
from tokencache_pack.tokencache_core.reporting.advice import advice
from tokencache_pack.tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings
from torch import Tensor

from .cell import Apply, Cell
from .counted import Counted, counting
from .models import REFERENCE, TINIEST, model

WORKS, WARNS, WHOLE, REFUSED, FAULT = "works", "works and warns", "runs in full", "refused", "FAULT"
NOT_HERE = "not possible"  # the host itself cannot do it
KINDS = {
    WORKS: "P-steps are forecast, and the samples are closer to the plain run than those of as many full steps as the "
    "run computed; where that fails on random weights, on the reference DiT's trained ones",
    WARNS: "P-steps are forecast, fewer full steps come closer, and the report warns of it",
    WHOLE: "all is computed, the samples are the plain run's, and the report gives the reason",
    REFUSED: "an error says what to do",
    FAULT: "the samples, or the report, are wrong without a word",
    NOT_HERE: "the host alone fails, or gives NaN",
}
_KEPT = 16
TOLERATED = 0.02  # difference between the share of the blocks that computed and the report's
_NO_WARNING = ("in the time of this run", "the first step took", "the clock gains less")  # advice about time alone


@dataclass(frozen=True)
class Verdict:
    """kind: of KINDS. reason: of it, in words.

    evaluations: of the model in the cached run.
    compute: the share of the blocks' work that it did.
    error: distance of its samples from the plain run's, relative to their norm.
    fewer: the same distance of a plain run of fewer steps, which computes as much.
    """

    kind: str
    reason: str = ""
    evaluations: int = 0
    compute: float = 1.0
    error: float = 0.0
    fewer: float = 0.0


class Applying:
    """Apply TokenCache as a function of the MODEL, which remembers the reports of all its runs."""

    def __init__(self, cache_ratio: float) -> None:
        self.settings, self.handles = CacheSettings(cache_ratio=cache_ratio), []

    def __call__(self, patcher: ModelPatcher) -> ModelPatcher:
        patched, handle = apply_tokencache(patcher, self.settings, AutomaticSchedule())
        handle.reports = _Unbounded()
        self.handles.append(handle)
        return patched

    @property
    def reports(self) -> list[Report]:
        return [report for handle in self.handles for report in handle.reports]


class _Unbounded(list):
    """In the place of a handle's bounded deque."""


def judged(cell: Cell) -> Verdict:
    """Run a cell: plainly, at cache ratio 0, by default, and plainly with fewer steps."""
    try:
        plain = _plain(cell)
    except Exception as error:
        return Verdict(NOT_HERE, _words(error))
    if not all(samples.isfinite().all() for samples in plain):
        return Verdict(NOT_HERE, "the plain run gives NaN")
    for ratio in (0.0, 1.0):
        applying = Applying(ratio)
        try:
            with counting() if cell.counts else nullcontext(Counted()) as counted:
                samples = _run(cell, applying)
        except Exception as error:
            refused = cell.refuses and isinstance(error, ValueError) and re.search(cell.refuses, str(error))
            return Verdict(REFUSED if refused else FAULT, _words(error))
        if cell.refuses:
            return Verdict(FAULT, "it was not refused")
        if not cell.counts:
            counted.believe(applying.reports)
        if fault := _fault(ratio, plain, samples, applying.reports, counted):
            return Verdict(FAULT, f"at cache_ratio {ratio:g}, {fault}", counted.evaluations, counted.share)
    if any("forward" in module.__dict__ for module in model(cell.model).model.model.diffusion_model.modules()):
        return Verdict(FAULT, "something is left on the model")
    return _of_default(cell, plain, samples, applying.reports, counted)


def same(samples: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether they are equal, bit for bit."""
    return len(samples) == len(others) and all(map(torch.equal, samples, others))


def _fault(
    cache_ratio: float, plain: Sequence[Tensor], samples: Sequence[Tensor], reports: Sequence[Report], counted: Counted
) -> str:
    """What is wrong with a cached run; empty if nothing is."""
    evaluations = sum(len(report.steps) for report in reports)
    computed = sum(step.computed for report in reports for step in report.steps)
    available = sum(step.available for report in reports for step in report.steps)
    share = computed / available if available else 1.0
    said = any("evaluations" in note for report in reports for note in report.notes)
    if cache_ratio == 0 and not same(samples, plain):
        return f"the samples are not those of the plain run, but {distance(samples, plain):.1e} from them"
    if not all(each.isfinite().all() for each in samples):
        return "the samples are not finite"
    if evaluations != counted.evaluations and not said:
        return f"the report tells of {evaluations} evaluations; there were {counted.evaluations}"
    if abs(share - counted.share) > TOLERATED:
        return f"the report tells of {share:.1%} of the work; {counted.share:.1%} was done"
    return ""


def _of_default(
    cell: Cell, plain: Sequence[Tensor], samples: Sequence[Tensor], reports: Sequence[Report], counted: Counted
) -> Verdict:
    found = {"evaluations": counted.evaluations, "compute": counted.share}
    notes = list(dict.fromkeys(note for report in reports for note in report.notes))
    if not counted.evaluations:
        return Verdict(WHOLE, "nothing is sampled", **found)
    if counted.share == 1.0:
        if not same(samples, plain):
            return Verdict(FAULT, "all was computed, and yet the samples are not the plain run's", **found)
        reasons = [*notes, *_warnings(reports)]
        return Verdict(WHOLE, reasons[0], **found) if reasons else Verdict(FAULT, "runs in full for no reason", **found)
    steps = max(1, math.ceil(counted.share * cell.steps - 1e-9))
    error, fewer = distance(samples, plain), distance(_plain(cell, steps), plain)
    found |= {"error": error, "fewer": fewer}
    if error < fewer:
        return Verdict(WORKS, notes[0] if notes else "", **found)
    if warnings := [*notes, *_warnings(reports)]:
        return Verdict(WARNS, warnings[0], **found)
    if cell.model == TINIEST:
        trained = judged(replace(cell, model=REFERENCE))
        if trained.kind == WORKS:
            figures = f"{trained.error:.3f} off, fewer steps {trained.fewer:.3f}"
            return Verdict(WORKS, f"on the reference DiT, which has trained weights: {figures}", **found)
    return Verdict(FAULT, "fewer full steps come closer, and the report is silent", **found)


def _warnings(reports: Sequence[Report]) -> list[str]:
    """What the reports advise, of likeness."""
    said = [text for report in reports for text in advice(report)]
    return [text for text in dict.fromkeys(said) if not text.startswith(_NO_WARNING)]


def distance(samples: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """The largest of their distances, relative to the plain samples' norms."""
    return max(float((got - expected).norm() / expected.norm()) for got, expected in zip(samples, plain))


_PLAIN: dict[tuple[str, str, int], Sequence[Tensor]] = {}  # of the last cells, by what is the same of them


def _plain(cell: Cell, steps: int | None = None) -> Sequence[Tensor]:
    """What the cell samples without Apply TokenCache; run once for cells that are alike."""
    name = (cell.alike or cell.name, cell.model, steps or cell.steps)
    if name not in _PLAIN:
        if len(_PLAIN) > _KEPT:
            _PLAIN.clear()
        _PLAIN[name] = _run(cell, _nothing, steps)
    return _PLAIN[name]


def _nothing(patcher: ModelPatcher) -> ModelPatcher:
    return patcher


def _run(cell: Cell, apply: Apply, steps: int | None = None) -> Sequence[Tensor]:
    torch.manual_seed(0)
    with torch.inference_mode():
        return cell.run(model(cell.model), apply, steps or cell.steps)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
