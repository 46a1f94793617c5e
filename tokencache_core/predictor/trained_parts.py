"""Trained parts: what a training produced and a run uses besides the model.

The protocol that the engine expects of them is in engine/learned_parts.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import nn

from ..words.message import Message, joined, say
from .learned_forecast import LearnedForecast
from .lora import LoraRepair
from .predicted_choice import PredictedPlanner
from .token_scores import CachePredictor

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class TrainedParts:
    """The parts that a run may be given, each optional.

    repair: LoRA on the last K blocks, active on P-steps.
    forecasts: by the first and last block of the span that each corrects.
    predictor: chooses the tokens that P-steps compute.
    every_step: whether it chooses anew on every P-step instead of once per window.
    shares: the share of its tokens that each cacheable block computes; empty: the settings decide.
    """

    repair: LoraRepair | None = None
    forecasts: Mapping[tuple[int, int], LearnedForecast] = field(default_factory=dict)
    predictor: CachePredictor | None = None
    every_step: bool = False
    shares: tuple[float, ...] = ()

    def check(self, blocks: Sequence[nn.Module]) -> None:
        """ValueError unless the parts fit the model with these blocks."""
        if self.repair is not None:
            self.repair.check(blocks)
        for first, last in self.forecasts:
            if not 0 <= first <= last < len(blocks):
                raise ValueError(
                    f"a learned forecast is for the blocks {first} to {last}, but the model has {len(blocks)}; train a "
                    "predictor for it"
                )

    def check_last(self, n_blocks: int, last_blocks: int) -> None:
        """ValueError unless all repaired blocks are among the last K, the only ones computed in full on P-steps."""
        if self.repair is not None:
            self.repair.check_last(n_blocks, last_blocks)

    def planner(self) -> PredictedPlanner | None:
        """A planner that chooses tokens by the predictor's scores; None without a predictor."""
        return None if self.predictor is None else PredictedPlanner(self.predictor, self.every_step)

    def correction(self, first: int, last: int) -> LearnedForecast | None:
        """The correction of the forecast of the span of blocks `first` to `last`, if there is one."""
        return self.forecasts.get((first, last))

    def repaired(self, index: int, block: nn.Module) -> AbstractContextManager[None]:
        """While open, block number `index` has the repair's adapters."""
        return nullcontext() if self.repair is None else self.repair.added_to(index, block)

    def text(self) -> Message:
        """The names of the parts, as text; empty if there are none."""
        parts = {
            say("learned_forecast", "a learned forecast"): self.forecasts,
            say("learned_repair", "a LoRA repair of the last blocks"): self.repair is not None,
            say("learned_scores", "scores of a Cache Predictor"): self.predictor is not None,
        }
        return joined(", ", (part for part, there in parts.items() if there))

    def on(self, device: torch.device) -> TrainedParts:
        """The same parts on `device`; modules that are elsewhere are copied."""
        return replace(
            self,
            forecasts={span: _on_device(module, device) for span, module in self.forecasts.items()},
            predictor=None if self.predictor is None else _on_device(self.predictor, device),
        )

    def release(self) -> None:
        """Drop the copies that a run has left on its device."""
        if self.repair is not None:
            self.repair.release()


def _on_device(module: ModuleT, device: torch.device) -> ModuleT:
    if all(weight.device == device for weight in module.parameters()):
        return module
    return copy.deepcopy(module).to(device)
