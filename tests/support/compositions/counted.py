"""What really ran in a sampling run, counted beside its report: evaluations, and the share of the blocks that computed.

Global hooks of torch see every module's call, whichever model it belongs to and whatever stands in the place of its
forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import comfy.model_base
import comfy.samplers
from tokencache_pack.nodes.families import family_of
from tokencache_pack.tokencache_core.engine.record import Report
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


class Counted:
    """evaluations: of guiders. reached, computed: blocks that were called, or whose network was not asked because its
    output was known, and those that computed something, weighted by the size of their latent.
    """

    def __init__(self) -> None:
        self.evaluations, self.reached, self.computed = 0, 0, 0
        self._weight = 0  # of the call of the network under way
        self._networks_input: dict[
            tuple[int, ...], float
        ] = {}  # its size over that of the latent, by the latter's shape
        self._asked = 0  # how often the host's own call of a network was made
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

    def _answered(self, network: nn.Module, x: Tensor, asked_before: int) -> None:
        """The host has been given what a call of the network predicts of the latent x (R, ...)."""
        shape = tuple(x.shape[1:])
        if self._asked > asked_before:
            self._networks_input[shape] = self._weight / x.numel()
        elif (family := family_of(network)) is not None and shape in self._networks_input:
            self.reached += round(x.numel() * self._networks_input[shape]) * len(family.blocks(network))

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
    apply, apply_plainly = comfy.model_base.BaseModel.apply_model, comfy.model_base.BaseModel._apply_model

    def evaluated(*args: Any, **kwargs: Any) -> Any:
        counted.evaluations += 1
        return evaluate(*args, **kwargs)

    def applied(model: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        before = counted._asked
        predicted = apply(model, x, *args, **kwargs)
        counted._answered(model.diffusion_model, x, before)
        return predicted

    def asked(*args: Any, **kwargs: Any) -> Any:
        counted._asked += 1
        return apply_plainly(*args, **kwargs)

    hook = register_module_forward_pre_hook(counted._called)
    try:
        with (
            patch.object(comfy.samplers.CFGGuider, "outer_predict_noise", evaluated),
            patch.object(comfy.model_base.BaseModel, "apply_model", applied),
            patch.object(comfy.model_base.BaseModel, "_apply_model", asked),
        ):
            yield counted
    finally:
        hook.remove()
