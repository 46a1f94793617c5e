"""The engine's interface to the learned parts of a run. The implementation is `predictor/trained_parts.py`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import nn

from .forecast import Correction
from .token_choice import Planner


class LearnedParts(Protocol):
    """The learned parts of a run.

    shares: the share of its tokens that each cacheable block computes; empty: the settings decide.
    """

    @property
    def shares(self) -> tuple[float, ...]: ...

    def check(self, blocks: Sequence[nn.Module]) -> None:
        """Raise ValueError unless the parts fit a model with these blocks."""
        ...

    def check_last(self, n_blocks: int, last_blocks: int) -> None:
        """ValueError unless they fit a run whose last `last_blocks` of `n_blocks` blocks run in full on P-steps."""
        ...

    def on(self, device: torch.device) -> LearnedParts:
        """The same parts on `device`."""
        ...

    def planner(self) -> Planner | None:
        """The planner that chooses the tokens of P-steps; None: the settings' score chooses them."""
        ...

    def correction(self, first: int, last: int) -> Correction | None:
        """The correction of the forecast of the span of blocks `first` to `last`, if one was learned."""
        ...

    def repaired(self, index: int, block: nn.Module) -> AbstractContextManager[None]:
        """While active, block number `index` runs with the weights learned for P-steps."""
        ...

    def release(self) -> None:
        """Free the copies that a run left on its device."""
        ...

    def text(self) -> str:
        """The parts as text; empty: there are none."""
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
