"""BWCache: block-wise caching (Cui et al., arXiv 2509.13789), implemented from the paper.

A computed step compares every block's features with those that it replaces, by their relative L1 distance. If its mean
over the blocks is below a threshold, the blocks' features are reused for the next `reuse` steps; then a step is
computed, so that the cache does not drift, and the decision is made again. Otherwise the next step is computed; so is
every step before the first comparison.

Choices made here: if steps were reused in between, the distance is divided by the number of steps, because the paper
compares adjacent steps; and the features are a block's outputs, not its updates (2 to 3 dB better), so that on a reused
step the last block's outputs stand for the stack.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokencache_core.bench.workload import Workload

from .cached_run import CachedRun, Whole
from .peer import Peer, Settings


def relative_l1(now: Tensor, last: Tensor) -> Tensor:
    """The change of features (B, N, D) relative to the last ones: a scalar, still on the device."""
    return (now - last).abs().sum() / last.abs().sum()


class ReuseWindow:
    """Decides whether a step reuses, from the changes at computed steps.

    threshold: of the change, below which steps are reused.
    reuse: how many.
    """

    def __init__(self, threshold: float, reuse: int) -> None:
        self.threshold, self.reuse = threshold, reuse
        self.left = 0  # steps that still reuse
        self.apart = 1  # steps since the last computed one

    def compare(self, change: float) -> None:
        """Take the change of a computed step's features from those of the computed step before it."""
        if change / self.apart < self.threshold:
            self.left = self.reuse
        self.apart = 1

    def take(self) -> bool:
        """Whether the step that begins now reuses."""
        if not self.left:
            return False
        self.left, self.apart = self.left - 1, self.apart + 1
        return True


class BWCacheRun(CachedRun):
    def __init__(self, workload: Workload, threshold: float, reuse: int) -> None:
        super().__init__(workload)
        self.window = ReuseWindow(threshold, reuse)
        self.reuses = False
        self.features: dict[int, Tensor] = {}  # (B, N, D) per block
        self.changes: list[Tensor] = []  # of this step, one scalar per block

    def block(self, index: int, whole: Whole, x: Tensor, c: Tensor, options: dict) -> Tensor:
        is_last = index == len(self.blocks) - 1
        if index == 0:
            self.reuses = self.window.take()
        if self.reuses:
            return self.features[index] if is_last else x
        after = whole(x, c, options)
        self.computed += 1
        if index in self.features:
            self.changes.append(relative_l1(after, self.features[index]))
        self.features[index] = after
        if is_last and self.changes:
            self.window.compare(torch.stack(self.changes).mean().item())
            self.changes = []
        return after


def run(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    return BWCacheRun(workload, **settings).sample()


THRESHOLDS = (
    0.0,
    0.005,
    0.01,
    0.0125,
    0.015,
    0.0175,
    0.02,
    0.0225,
    0.025,
    0.0275,
    0.03,
    0.035,
    0.04,
    0.045,
    0.05,
    0.055,
    0.06,
    0.07,
    0.085,
    0.1,
    0.15,
    0.3,
    1.0,
    3.0,
)
PEERS = (
    Peer(
        "bwcache",
        "arXiv 2509.13789",
        run,
        knob="threshold",
        knobs=THRESHOLDS,
        variants=tuple({"reuse": reuse} for reuse in (1, 3, 6)),
    ),
)
