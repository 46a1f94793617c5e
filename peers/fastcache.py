"""FastCache (Liu et al., arXiv 2505.20353), implemented from the paper: blocks and tokens that hardly changed go
through a learned linear map.

Blocks: with delta the change of a block's input relative to its size (Frobenius norms), the paper assumes that
N*D*delta^2 is chi-square with N*D degrees of freedom, and approximates the block if the test finds no change. Unscaled,
that threshold is a change by about the input's own size, which no block ever reaches. So delta is measured in units of
`change`, the largest change that does not count.
Tokens: those whose embedding changed by less than `motion` such units go through one map instead of the whole stack,
and the others attend only to each other.

Two details were chosen by measurement. Changes are relative to what was last computed, not to the last step, so that
small ones add up. And a map goes from the input's change to the output's change, which is added to the last computed
output; the paper's map of the state itself reached only 16.7 dB on the reference model where it saved a tenth. The maps
are fitted in closed form (ridge regression) on a full run of the model itself. Their own cost is not counted as
compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from tokencache_core.bench.workload import Workload
from tokencache_core.blocks.token_index import TokenIndex

from .cached_run import CachedRun, Whole, kept_per_model
from .peer import Peer, Settings

SIGNIFICANCE, RIDGE = 0.05, 1e-3


def chi_square_quantile(probability: float, freedom: int) -> float:
    """The quantile by Wilson and Hilferty's approximation, which is accurate at thousands of degrees of freedom."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + NormalDist().inv_cdf(probability) * spread**0.5) ** 3


def relative_change(x: Tensor, last: Tensor) -> float:
    """The paper's delta over all rows. x, last: (B, N, D)."""
    return float((x - last).norm() / last.norm())


class LinearFit:
    """Ridge regression of outputs (..., D) on inputs (..., D) and a constant; only sums are kept."""

    def __init__(self) -> None:
        self.sums: tuple[Tensor, Tensor] | None = None  # of x^T x and of x^T y

    def add(self, x: Tensor, y: Tensor) -> None:
        x, y = x.flatten(0, -2).double(), y.flatten(0, -2).double()
        x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        gram, cross = x.T @ x, x.T @ y
        self.sums = (gram, cross) if self.sums is None else (self.sums[0] + gram, self.sums[1] + cross)

    def solve(self) -> LinearMap:
        assert self.sums is not None  # something has been added
        gram, cross = self.sums
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.double, device=gram.device)
        solution = torch.linalg.solve(gram + ridge, cross).float()
        return LinearMap(solution[:-1], solution[-1])


@dataclass(frozen=True)
class LinearMap:
    weight: Tensor  # (D, D)
    bias: Tensor  # (D,)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight.to(x.dtype) + self.bias.to(x.dtype)


class FittingRun(CachedRun):
    """A full run that fits maps to the changes from step to step: one per block, and last that of the whole stack."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.fits = [LinearFit() for _ in range(len(self.blocks) + 1)]
        self.last: dict[int, tuple[Tensor, Tensor]] = {}

    def block(self, index: int, whole: Whole, x: Tensor, c: Tensor, options: dict) -> Tensor:
        after = whole(x, c, options)
        self._add(index, x, after)
        if index == 0:
            self.embedded = x
        if index == len(self.blocks) - 1:
            self._add(len(self.blocks), self.embedded, after)
        return after

    def _add(self, fit: int, x: Tensor, y: Tensor) -> None:
        if fit in self.last:
            self.fits[fit].add(x - self.last[fit][0], y - self.last[fit][1])
        self.last[fit] = x, y


@kept_per_model
def linear_maps(workload: Workload) -> list[LinearMap]:
    fitting = FittingRun(workload)
    fitting.sample()
    return [fit.solve() for fit in fitting.fits]


class FastCacheRun(CachedRun):
    """One run. change, motion: see above; with motion 0 all tokens go through the stack."""

    def __init__(self, workload: Workload, change: float, motion: float = 0.0) -> None:
        super().__init__(workload)
        self.change, self.motion = change, motion * change
        self.maps = linear_maps(workload) if change else []
        self.last: dict[int, tuple[Tensor, Tensor]] = {}  # each block's input and output (B, N, D) when last computed
        self.embedded: tuple[Tensor, Tensor] | None = None  # the stack's, when each token was last computed
        self.moving: TokenIndex | None = None

    def block(self, index: int, whole: Whole, x: Tensor, c: Tensor, options: dict) -> Tensor:
        if index == 0 and self.motion:
            x = self._split(x)
        if self._changed(index, x):
            after = whole(x, c, options)
            self.computed += 1.0 if self.moving is None else self.moving.count / self.moving.n_tokens
            self._keep(index, x, after)
        else:
            after = self._mapped(index, x)
        if index == len(self.blocks) - 1 and self.motion:
            after = self._join(after)
        return after

    def _recall(self, index: int) -> tuple[Tensor, Tensor]:
        """The block's last computed input and output, of the moving tokens."""
        before, after = self.last[index]
        return (before, after) if self.moving is None else (self.moving.gather(before), self.moving.gather(after))

    def _changed(self, index: int, x: Tensor) -> bool:
        if not self.change or index not in self.last:
            return True
        freedom = x.shape[-2] * x.shape[-1]
        statistic = freedom * (relative_change(x, self._recall(index)[0]) / self.change) ** 2
        return statistic > chi_square_quantile(1 - SIGNIFICANCE, freedom)

    def _keep(self, index: int, x: Tensor, after: Tensor) -> None:
        if self.moving is None:
            # cloned if written into later, because one block's output is the next one's input
            self.last[index] = (x.clone(), after.clone()) if self.motion else (x, after)
        else:
            for kept, now in zip(self.last[index], (x, after)):
                self.moving.scatter_(kept, now)

    def _mapped(self, index: int, x: Tensor) -> Tensor:
        before, after = self._recall(index)
        return after + self.maps[index](x - before)

    def _split(self, x: Tensor) -> Tensor:
        """The moving tokens of the embedding x (B, N, D): those that have changed most since they last moved."""
        self.arrived = x
        if self.embedded is None:
            return x
        saliency = (x - self.embedded[0]).square().sum(-1)  # (B, N), the paper's S
        still = self.motion**2 * self.embedded[0].square().sum(-1).mean()
        count = max(1, int((saliency > still).sum(1).max()))  # the same for all rows of a batch
        self.moving = TokenIndex(saliency.topk(count, dim=1, sorted=False).indices, x.shape[1])
        return self.moving.gather(x)

    def _join(self, after: Tensor) -> Tensor:
        """The stack's output (B, N, D): moving tokens as computed, static ones by the stack's map."""
        if self.moving is None or self.embedded is None:
            self.embedded = self.arrived.clone(), after.clone()
            return after
        out = self.embedded[1] + self.maps[-1](self.arrived - self.embedded[0])
        self.moving.scatter_(out, after)
        for kept, now in zip(self.embedded, (self.arrived, out)):
            self.moving.scatter_(kept, self.moving.gather(now))
        return out


def run(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    return FastCacheRun(workload, **settings).sample()


CHANGES = (
    0.0,
    0.003,
    0.006,
    0.009,
    0.0125,
    0.015,
    0.0175,
    0.02,
    0.025,
    0.03,
    0.035,
    0.04,
    0.05,
    0.06,
    0.07,
    0.08,
    0.1,
    0.12,
    0.15,
    0.2,
    0.3,
    0.4,
    0.6,
    1.0,
)
PEERS = (
    Peer(
        "fastcache", "arXiv 2505.20353", run, knob="change", knobs=CHANGES, variants=({"motion": 0.0}, {"motion": 0.1})
    ),
)
