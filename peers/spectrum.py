"""Spectrum: features as Chebyshev polynomials of the step (Han et al., arXiv 2603.01623), implemented from the paper.

The last block's output is kept at every computed step; on the others, no block runs and the output is forecast by a
Chebyshev polynomial that ridge regression fits to all that was kept. Windows between computed steps grow: each is
longer than the one before by a constant.

Choices made here: the first WARMUP steps are computed; both conditionings of guidance, which go through the network in
one batch, are fitted row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokencache_core.bench.workload import SampledWorkload
from tokencache_core.blocks.spec import BlockSpec
from tokencache_core.blocks.swapped_forwards import swapped_forwards

from .peer import ANY_MODEL, Peer, Settings

DEGREE, RIDGE, WARMUP = 4, 0.1, 4


def computed_steps(steps: int, growth: float) -> Iterator[int]:
    """The steps that are computed: WARMUP of them, then one after each window."""
    yield from range(min(WARMUP, steps))
    step, window = WARMUP - 1, 1.0 + growth
    while (step := step + int(window)) < steps:
        yield step
        window += growth


def chebyshev_weights(known: list[int], step: int, steps: int) -> np.ndarray:
    """(known,): the weight of what was kept at each known step in the fitted polynomial at `step`."""
    basis = np.polynomial.chebyshev.chebvander(2 * np.array([*known, step]) / max(1, steps - 1) - 1, DEGREE)
    fitted = basis[:-1]
    return basis[-1] @ np.linalg.solve(fitted.T @ fitted + RIDGE * np.eye(DEGREE + 1), fitted.T)


class SpectrumRun:
    """One sampling run. step: the current one, from 0; kept: the last block's output by computed step."""

    def __init__(self, workload: SampledWorkload, growth: float) -> None:
        self.workload, self.steps = workload, workload.protocol.steps
        self.blocks = workload.sampled.blocks
        self.computed = set(computed_steps(self.steps, growth))
        self.step, self.kept = -1, dict[int, Tensor]()

    def sample(self) -> tuple[Tensor, float]:
        """The pictures (B, C, H, W), and the share of the steps that were computed."""
        with swapped_forwards(self.workload.blocks, lambda index, _, forward: partial(self._forward, index, forward)):
            pictures = self.workload.full(self.steps, self.workload.protocol.solver)
        return pictures, len(self.computed) / self.steps

    def _forward(self, index: int, whole: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.step += index == 0
        is_last = index == len(self.blocks) - 1
        if self.step not in self.computed:
            return self._forecast() if is_last else unchanged(self.blocks[index][1], args, kwargs)
        out = whole(*args, **kwargs)
        if is_last:
            self.kept[self.step] = out
        return out

    def _forecast(self) -> Tensor:
        weights = chebyshev_weights(list(self.kept), self.step, self.steps)
        outputs = list(self.kept.values())
        return torch.tensordot(torch.from_numpy(weights).to(outputs[0]), torch.stack(outputs), dims=1)


def unchanged(spec: BlockSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a block returns that changes nothing."""
    tokens = kwargs[spec.tokens] if spec.tokens in kwargs else args[0]
    return tokens if spec.text is None else (tokens, kwargs[spec.text])


def run(workload: SampledWorkload, settings: Settings) -> tuple[Tensor, float]:
    return SpectrumRun(workload, **settings).sample()


GROWTHS = (0.0, *(round(0.05 * 80 ** (i / 22), 3) for i in range(23)))
PEERS = (Peer("spectrum", "arXiv 2603.01623", run, knob="growth", knobs=GROWTHS, models=ANY_MODEL),)
