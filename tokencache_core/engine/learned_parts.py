"""What a training may add to a run, as far as the engine is concerned. `predictor/trained_parts.py` has the real
ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import nn

from .forecast import Correction
from .token_choice import Planner


class LearnedParts(Protocol):
    """A run's learned parts. shares: of its tokens that each cacheable block computes; empty: the settings decide."""

    @property
    def shares(self) -> tuple[float, ...]: ...

    def check(self, blocks: Sequence[nn.Module]) -> None:
        """ValueError unless the parts fit a model of these blocks."""
        ...

    def check_last(self, n_blocks: int, last_blocks: int) -> None:
        """ValueError unless they fit a run in which the last `last_blocks` of `n_blocks` run whole on P-steps."""
        ...

    def on(self, device: torch.device) -> LearnedParts:
        """The same parts on `device`."""
        ...

    def planner(self) -> Planner | None:
        """What chooses the tokens that P-steps compute; None: the settings' score does."""
        ...

    def correction(self, first: int, last: int) -> Correction | None:
        """Of the forecast of the span of blocks `first` to `last`."""
        ...

    def repaired(self, index: int, block: nn.Module) -> AbstractContextManager[None]:
        """While open, block number `index` runs on a P-step with what was learned for it."""
        ...

    def release(self) -> None:
        """Forget the copies that a run has left on its device."""
        ...

    def text(self) -> str:
        """The parts in words; empty: there are none."""
        ...


class _Nothing:
    """No learned parts."""

    shares: tuple[float, ...] = ()

    def check(self, blocks: Sequence[nn.Module]) -> None:
        pass

    def check_last(self, n_blocks: int, last_blocks: int) -> None:
        pass

    def on(self, device: torch.device) -> LearnedParts:
        return self

    def planner(self) -> Planner | None:
        return None

    def correction(self, first: int, last: int) -> Correction | None:
        return None

    def repaired(self, index: int, block: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def release(self) -> None:
        pass

    def text(self) -> str:
        return ""


NOTHING_LEARNED: LearnedParts = _Nothing()
