"""A cell of the composition matrix: one way to use Apply TokenCache together with something else of the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher
from tiny_families.tiny_model import TinyModel
from torch import Tensor

Apply = Callable[[ModelPatcher], ModelPatcher]
# (model, apply, steps) -> what it samples. `apply` is Apply TokenCache, or nothing in the run to compare with.
Composition = Callable[[TinyModel, Apply, int], Sequence[Tensor]]
Patch = Callable[[ModelPatcher], ModelPatcher]

STEPS = 20
CELLS: list[Cell] = []  # filled by the modules of this package


@dataclass(frozen=True)
class Cell:
    """One way to use Apply TokenCache.

    subject: what it is about, as a heading.
    what: it is done, in words.
    model: the name of a tiny model (`models.TINY`).
    run: does it.
    steps: of its sampling runs.
    refuses: what it is refused with, a regular expression; empty: it must not be.
    alike: names the cells whose plain runs are the same.
    counts: what runs is counted beside the report; torch.compile would trace the counting.
    """

    subject: str
    what: str
    model: str
    run: Composition
    steps: int = STEPS
    refuses: str = ""
    alike: str = ""
    counts: bool = True

    @property
    def name(self) -> str:
        return f"{self.subject}: {self.what} ({self.model})"


def cell(subject: str, what: str, *models: str, **more: Any) -> Callable[[Composition], Composition]:
    """Decorates a composition: a cell for each of the models."""

    def add(run: Composition) -> Composition:
        CELLS.extend(Cell(subject, what, model, run, **more) for model in models)
        return run

    return add


def patched(subject: str, what: str, patch: Patch, *models: str, how: Callable[..., Tensor] | None = None) -> None:
    """A node that patches the MODEL: a cell before Apply TokenCache and one after it, for each of the models.

    how: (tiny, model, steps) -> samples; KSampler if not given.
    """

    def sample(tiny: TinyModel, model: ModelPatcher, steps: int) -> Tensor:
        return tiny.sample(model, steps=steps) if how is None else how(tiny, model, steps)

    cell(subject, f"{what}, before Apply", *models, alike=what)(
        lambda tiny, apply, steps: [sample(tiny, apply(patch(tiny.model)), steps)]
    )
    cell(subject, f"{what}, after Apply", *models, alike=what)(
        lambda tiny, apply, steps: [sample(tiny, patch(apply(tiny.model)), steps)]
    )
