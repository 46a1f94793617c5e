"""What really ran in a sampling run, counted beside its report: evaluations, and the share of the blocks that computed.

Global hooks of torch see every module's call, whichever model it belongs to and whatever stands in the place of its
forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import comfy.samplers
from tokencache_pack.nodes.families import family_of
from tokencache_pack.tokencache_core.engine.record import Report
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook


class Counted:
    """evaluations: of guiders. reached, computed: blocks that were called, and those that computed something, weighted
    by the size of their latent.
    """

    def __init__(self) -> None:
        self.evaluations, self.reached, self.computed = 0, 0, 0
        self._weight = 0  # of the call of the network under way
        self._block_of: dict[int, nn.Module] = {}  # by the id of a layer in it
        self._blocks: dict[int, nn.Module] = {}
        self._computed: set[int] = set()  # blocks that have computed something in this call of theirs

    @property
    def share(self) -> float:
        return self.computed / self.reached if self.reached else 1.0

    def believe(self, reports: Sequence[Report]) -> None:
        """Take the reports' figures for a run that could not be counted."""
        steps = [step for report in reports for step in report.steps]
        self.evaluations = len(steps)
        self.computed, self.reached = sum(step.computed for step in steps), sum(step.available for step in steps)

    def _called(self, module: nn.Module, args: tuple) -> None:
        if (block := self._blocks.get(id(module))) is not None:
            self.reached += self._weight
            self._computed.discard(id(block))
        elif (block := self._block_of.get(id(module))) is not None:
            if id(block) not in self._computed:
                self._computed.add(id(block))
                self.computed += self._weight
        elif (family := family_of(module)) is not None:
            self._weight = args[0].numel()
            for block, _ in family.blocks(module):
                block = getattr(block, "_orig_mod", block)
                self._blocks[id(block)] = block
                self._block_of |= {id(layer): block for layer in block.modules() if hasattr(layer, "in_features")}


@contextmanager
def counting() -> Iterator[Counted]:
    """Counts all that runs while it is open."""
    counted = Counted()
    evaluate = comfy.samplers.CFGGuider.outer_predict_noise

    def evaluated(*args: Any, **kwargs: Any) -> Any:
        counted.evaluations += 1
        return evaluate(*args, **kwargs)

    hook = register_module_forward_pre_hook(counted._called)
    try:
        with patch.object(comfy.samplers.CFGGuider, "outer_predict_noise", evaluated):
            yield counted
    finally:
        hook.remove()
