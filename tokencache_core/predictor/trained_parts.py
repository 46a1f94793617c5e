"""Trained parts: what a training gave, and a run uses besides the model (`engine/learned_parts.py` says what the engine
asks of them).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from .learned_forecast import LearnedForecast
from .lora import LoraRepair
from .predicted_choice import PredictedPlanner
from .token_scores import CachePredictor


@dataclass(frozen=True, eq=False)
class TrainedParts:
    """repair: what the last K blocks add on P-steps. forecasts: by the first and last block of the span that each
    corrects.

    predictor: chooses the tokens that P-steps compute; on every P-step, or once per window. shares: of its tokens that
    each cacheable block computes; empty: the settings decide.
    """

    repair: LoraRepair | None = None
    forecasts: Mapping[tuple[int, int], LearnedForecast] = field(default_factory=dict)
    predictor: CachePredictor | None = None
    every_step: bool = False
    shares: tuple[float, ...] = ()

    def check(self, blocks: Sequence[nn.Module]) -> None:
        """ValueError unless the parts fit the model of these blocks."""
        if self.repair is not None:
            self.repair.check(blocks)
        for first, last in self.forecasts:
            if not 0 <= first <= last < len(blocks):
                raise ValueError(
                    f"a learned forecast is of the blocks {first} to {last}, but the model has {len(blocks)}; train a "
                    "predictor for it"
                )

    def check_last(self, n_blocks: int, last_blocks: int) -> None:
        """ValueError unless all repaired blocks are among the last K, the only ones that run whole on P-steps."""
        if self.repair is not None:
            self.repair.check_last(n_blocks, last_blocks)

    def planner(self) -> PredictedPlanner | None:
        """Chooses tokens by the predictor's scores."""
        return None if self.predictor is None else PredictedPlanner(self.predictor, self.every_step)

    def correction(self, first: int, last: int) -> LearnedForecast | None:
        """Of the forecast of the span of blocks `first` to `last`."""
        return self.forecasts.get((first, last))

    def repaired(self, index: int, block: nn.Module) -> AbstractContextManager[None]:
        """While open, block number `index` has the repair's adapters."""
        return nullcontext() if self.repair is None else self.repair.added_to(index, block)

    def text(self) -> str:
        """What there is of it, in words; empty: nothing."""
        parts = {
            "a learned forecast": self.forecasts,
            "a LoRA repair of the last blocks": self.repair is not None,
            "scores of a Cache Predictor": self.predictor is not None,
        }
        return ", ".join(part for part, there in parts.items() if there)

    def on(self, device: torch.device) -> TrainedParts:
        """The same on `device`: a copy where it is elsewhere."""

        def placed(module: nn.Module) -> nn.Module:
            return (
                module
                if all(weight.device == device for weight in module.parameters())
                else copy.deepcopy(module).to(device)
            )

        return replace(
            self,
            forecasts={run: placed(module) for run, module in self.forecasts.items()},
            predictor=None if self.predictor is None else placed(self.predictor),
        )

    def release(self) -> None:
        """Forget the copies that a run has left on its device."""
        if self.repair is not None:
            self.repair.release()
