"""ToCa: token-wise feature caching (Zou et al., arXiv 2410.05317), implemented from the paper for a class-conditional
DiT.

Every `interval`-th step is computed in full. On the others attention is reused, and so is the MLP except for the tokens
with the highest score, which is the sum of:
    how much the other tokens attend to it (a column sum of the self-attention map, from the last full step),
    how many steps ago its MLP was computed, as a share of the interval,
    and a bonus for the best in a neighbourhood, so that the chosen tokens spread over the picture.
(The paper's fourth score is based on cross-attention, which a DiT lacks.) The cache ratio R varies over layers and
steps.

Outputs are cached before the gate. Weights and slopes are those that were best on the reference model: there more
tokens in deep layers beat more in shallow ones, and more in early steps beat more in late ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tokencache_core.bench.workload import Workload
from tokencache_core.blocks.attention import OVERRIDE_KEY
from tokencache_core.blocks.token_index import TokenIndex

from .cached_run import CachedRun, Modulation, Whole, attend, feed_forward, modulation_of
from .peer import Peer, Settings

AGE_WEIGHT, SPATIAL_WEIGHT = 1.0, 0.4  # relative to the influence, which is 1 on average
NEIGHBOURHOOD = 3  # tokens per side
LAYER_SLOPE, STEP_SLOPE = -0.4, 0.4  # how much more than average the first layer and the first step compute


def computed_tokens(ratio: float, n_tokens: int, layer: float, time: float) -> int:
    """The number of tokens whose MLP is computed; at mid-depth and mid-run ceil((1 - R) N).

    ratio: R.
    n_tokens: N.
    layer, time: how deep and how late, in [0, 1].
    """
    slope = (1 + LAYER_SLOPE * (1 - 2 * layer)) * (1 + STEP_SLOPE * (1 - 2 * time))
    return min(n_tokens, math.ceil(round((1 - ratio) * slope * n_tokens, 6)))


def local_best(score: Tensor, width: int) -> Tensor:
    """Whether each token (B, N), in a grid of this width, has the highest score among its neighbours."""
    grid = score.view(score.shape[0], 1, -1, width)
    return (grid == F.max_pool2d(grid, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)).view_as(score)


class TocaRun(CachedRun):
    def __init__(self, workload: Workload, interval: int, ratio: float) -> None:
        super().__init__(workload)
        self.interval, self.ratio = interval, ratio
        config = workload.model.config
        self.grid_width = config.input_size // config.patch_size
        self.attention: dict[int, Tensor] = {}  # (B, N, D) per block, before the gate
        self.mlp: dict[int, Tensor] = {}
        self.influence: dict[int, Tensor] = {}  # (B, N)
        self.age: dict[int, Tensor] = {}  # (B, N) steps since a token's MLP was computed

    def block(self, index: int, whole: Whole, x: Tensor, c: Tensor, options: dict) -> Tensor:
        if self.step % self.interval:
            return self._cached(index, x, c)
        self.computed += 1
        return whole(x, c, options) if self.interval == 1 else self._fresh(index, x, c, options)

    def _fresh(self, index: int, x: Tensor, c: Tensor, options: dict) -> Tensor:
        block, modulation = self.blocks[index], modulation_of(self.blocks[index], c)

        def weighing(plain: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, **_: Any) -> Tensor:
            q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
            weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)  # (B, heads, N, N)
            self.influence[index] = weights.sum((1, 2)) / heads
            return (weights @ v).transpose(1, 2).flatten(2)

        self.attention[index] = attend(block, x, modulation, {**options, OVERRIDE_KEY: weighing})
        x = torch.addcmul(x, modulation[2][:, None], self.attention[index])
        self.mlp[index] = feed_forward(block, x, modulation)
        self.age[index] = torch.zeros_like(self.influence[index])
        return torch.addcmul(x, modulation[5][:, None], self.mlp[index])

    def _cached(self, index: int, x: Tensor, c: Tensor) -> Tensor:
        block = self.blocks[index]
        modulation = modulation_of(block, c)
        x = torch.addcmul(x, modulation[2][:, None], self.attention[index])
        n_tokens = x.shape[1]
        count = computed_tokens(
            self.ratio, n_tokens, index / max(len(self.blocks) - 1, 1), self.step / (self.steps - 1)
        )
        self.computed += 0.5 * count / n_tokens
        if count:
            self._refresh(index, x, modulation, count)
        return torch.addcmul(x, modulation[5][:, None], self.mlp[index])

    def _refresh(self, index: int, x: Tensor, modulation: Modulation, count: int) -> None:
        """Compute the MLP of the `count` tokens with the highest score."""
        score = self.influence[index] + self.age[index] * (AGE_WEIGHT / self.interval)
        score = score + SPATIAL_WEIGHT * local_best(score, self.grid_width)
        tokens = score.topk(count, dim=1, sorted=False).indices
        chosen = TokenIndex(tokens, x.shape[1])
        chosen.scatter_(self.mlp[index], feed_forward(self.blocks[index], chosen.gather(x), modulation))
        self.age[index] = (self.age[index] + 1).scatter_(1, tokens, 0.0)


def run(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    return TocaRun(workload, settings["interval"], settings["cache_ratio"]).sample()


PEERS = (
    Peer(
        "toca",
        "arXiv 2410.05317",
        run,
        knob="interval",
        knobs=(*range(1, 13), 14, 16, 20, 25),
        variants=({"cache_ratio": 0.9}, {"cache_ratio": 0.8}),
    ),
)
