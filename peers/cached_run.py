"""A sampling run with the forwards of the DiT's blocks replaced: the base of the methods implemented from papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from tokencache_core.bench.workload import SampledWorkload, Workload, workload_of
from tokencache_core.blocks.swapped_forwards import swapped_forwards
from tokencache_core.dit.model import DiT, DiTBlock, modulate

Whole = Callable[..., Tensor]  # a block's own forward: (x, c, transformer_options) -> (B, N, D)
Modulation = tuple[Tensor, ...]  # shift, scale, gate of the attention, then of the MLP; each (B, D)
Fit = TypeVar("Fit")

CALIBRATION_SEED, CALIBRATION_SAMPLES = 10_000, 1


class CachedRun:
    """One sampling run in which `block` replaces every block's forward; afterwards the model is restored in any case.

    Attributes for `block`:

    step: the current denoise step, from 0 (the workload's solvers evaluate once per step).
    computed: the number of block evaluations so far, in whole blocks on all tokens; if attention and MLP are cached
        separately, each counts half a block.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload, self.steps = workload, workload.protocol.steps
        self.blocks = blocks_of(workload.model)
        self.step, self.computed = -1, 0.0

    def block(self, index: int, whole: Whole, x: Tensor, c: Tensor, options: dict) -> Tensor:
        """The output (B, N, D) of block `index` for tokens x (B, N, D) and condition c (B, D).

        whole: the block's own forward.
        options: the transformer_options.
        """
        raise NotImplementedError

    def sample(self) -> tuple[Tensor, float]:
        """The pictures (B, C, H, W), and the share of the full run's block-token evaluations that was computed."""
        with swapped_forwards(self.blocks, lambda index, _, forward: partial(self._forward, index, forward)):
            pictures = self.workload.full(self.steps, self.workload.protocol.solver)
        return pictures, self.computed / (self.steps * len(self.blocks))

    def _forward(self, index: int, whole: Whole, x: Tensor, c: Tensor, transformer_options: dict) -> Tensor:
        self.step += index == 0
        return self.block(index, whole, x, c, transformer_options)


def blocks_of(model: DiT) -> list[DiTBlock]:
    """The model's blocks in order."""
    blocks = []
    for block in model.blocks:
        assert isinstance(block, DiTBlock)
        blocks.append(block)
    return blocks


def modulation_of(block: DiTBlock, c: Tensor) -> Modulation:
    return block.adaLN_modulation(c).chunk(6, dim=-1)


def attend(block: DiTBlock, x: Tensor, modulation: Modulation, options: dict) -> Tensor:
    """The block's attention on x (B, N, D), before its gate."""
    return block.attn(modulate(block.norm1(x), *modulation[:2]), options)


def feed_forward(block: DiTBlock, x: Tensor, modulation: Modulation) -> Tensor:
    """The block's MLP on x (B, N, D), before its gate."""
    return block.mlp(modulate(block.norm2(x), *modulation[3:5]))


def calibration_workload(workload: SampledWorkload) -> SampledWorkload:
    """A workload to calibrate on: the same model and schedule, with other noise and, of a DiT with enough of them,
    other classes.
    """
    protocol = replace(workload.protocol, samples=CALIBRATION_SAMPLES, seed=CALIBRATION_SEED)
    if not isinstance(workload, Workload):
        return workload_of(workload.sampled, protocol)
    classes = range(workload.model.config.num_classes)
    half = len(classes) // 2
    return Workload(workload.model, protocol, [*classes[half:], *classes[:half]])


def kept_per_model(fit: Callable[..., Fit]) -> Callable[..., Fit]:
    """A decorator for `fit(workload, *rest)`, which is then called on a calibration workload.

    It is called once for each model, with its steps, schedule, solver, guidance and `rest`; further calls get the same
    result.
    """
    kept: WeakKeyDictionary[nn.Module, dict[Any, Fit]] = WeakKeyDictionary()

    @wraps(fit)
    def look_up(workload: SampledWorkload, *rest: Any) -> Fit:
        fits = kept.setdefault(workload.sampled.network, {})
        key = (
            workload.sampled.asking,
            workload.protocol.steps,
            workload.protocol.schedule,
            workload.protocol.solver,
            workload.protocol.cfg,
            *rest,
        )
        if key not in fits:
            fits[key] = fit(calibration_workload(workload), *rest)
        return fits[key]

    return look_up
