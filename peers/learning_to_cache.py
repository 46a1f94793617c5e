"""Learning-to-Cache (Ma et al., arXiv 2406.01733), implemented from the paper: a router that does not depend on the
input says which layers reuse.

A layer is a block's attention or its MLP. Every `interval`-th step is full; on the others the router lets layers reuse
their last computed output, before the gate. The paper's interval is 2, which allows at most 2x, so longer intervals are
variants.

The paper learns relaxed router entries by gradient descent with an L1 penalty, so that the predicted noise stays close
to the full one. Here the same objective is minimised without gradients: to first order the errors of reused layers add
up, so the squared error of a set of layers is a quadratic form, whose coefficients are measured on runs of the model
itself (one fork of the tokens per layer). Layers are then chosen greedily, the least error per step first, up to the
given share.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokencache_core.bench.workload import Workload

from .cached_run import CachedRun, Whole, attend, feed_forward, kept_per_model, modulation_of
from .peer import Peer, Settings

Router = frozenset[tuple[int, int]]  # (step, layer) pairs that reuse; block b's attention is layer 2b, its MLP 2b + 1


class LayerRun(CachedRun):
    """A run in which the layers of `router` reuse."""

    def __init__(self, workload: Workload, router: Router) -> None:
        super().__init__(workload)
        self.router = router
        self.outputs: dict[int, Tensor] = {}  # (B, N, D) per layer, before the gate

    def block(self, index: int, whole: Whole, x: Tensor, c: Tensor, options: dict) -> Tensor:
        block, modulation = self.blocks[index], modulation_of(self.blocks[index], c)
        attention, mlp = 2 * index, 2 * index + 1
        if (self.step, attention) not in self.router:
            self.outputs[attention] = attend(block, x, modulation, options)
            self.computed += 0.5
        x = torch.addcmul(x, modulation[2][:, None], self.outputs[attention])
        if (self.step, mlp) not in self.router:
            self.outputs[mlp] = feed_forward(block, x, modulation)
            self.computed += 0.5
        return torch.addcmul(x, modulation[5][:, None], self.outputs[mlp])


class ForkingRun(CachedRun):
    """A full run that measures, on the steps that are not full ones in a cached run, the error of the guided noise if
    one layer reuses its output from the last full step.

    Between layers the batch holds K forks of the tokens, (K * B, N, D): the plain one, then one for each layer passed,
    in which only this layer reused.

    grams: (layers, layers) inner products of the errors, by step.
    """

    def __init__(self, workload: Workload, interval: int) -> None:
        super().__init__(workload)
        self.interval = interval
        self.outputs: dict[int, Tensor] = {}
        self.grams: dict[int, Tensor] = {}

    def block(self, index: int, whole: Whole, x: Tensor, c: Tensor, options: dict) -> Tensor:
        block, rows = self.blocks[index], len(c)
        modulation = modulation_of(block, c)
        forks = self.step % self.interval != 0
        x = x if index == 0 or not forks else self.forked
        for layer, gate, output in (
            (2 * index, modulation[2], lambda x, m: attend(block, x, m, options)),
            (2 * index + 1, modulation[5], lambda x, m: feed_forward(block, x, m)),
        ):
            count = len(x) // rows
            computed = output(x, tuple(part.repeat(count, 1) for part in modulation))
            after = torch.addcmul(x, gate.repeat(count, 1)[:, None], computed)
            if forks:
                reused = torch.addcmul(x[:rows], gate[:, None], self.outputs[layer])
                after = torch.cat([after, reused])
            else:
                self.outputs[layer] = computed
            x = after
        if forks:
            self.forked = x
            if index == len(self.blocks) - 1:
                self.grams[self.step] = self._gram(x, c)
        return x[:rows]

    def _gram(self, x: Tensor, c: Tensor) -> Tensor:
        count = len(x) // len(c)
        model, (height, width) = self.workload.model, self.workload.noise.shape[-2:]
        tokens = model.final_layer(x, c.repeat(count, 1))
        noise = model.unpatchify(tokens, height, width).unflatten(0, (count, len(c)))
        cfg = self.workload.protocol.cfg
        if cfg != 1.0:
            positive, negative = noise.chunk(2, dim=1)
            noise = negative + cfg * (positive - negative)
        errors = (noise[1:] - noise[:1]).flatten(1).double()
        return errors @ errors.T


@kept_per_model
def reuse_order(workload: Workload, interval: int) -> list[tuple[int, int]]:
    """All (step, layer) pairs that may reuse, in the order of least harm, given those before it."""
    calibration = ForkingRun(workload, interval)
    calibration.sample()
    if not calibration.grams:
        return []
    steps = list(calibration.grams)
    grams = torch.stack([calibration.grams[step] for step in steps]).cpu()
    added = grams.diagonal(dim1=1, dim2=2).clone()  # (steps, layers): squared error that this layer's reuse would add
    order = []
    for _ in range(added.numel()):
        at, layer = divmod(int(added.argmin()), added.shape[1])
        order.append((steps[at], layer))
        added[at] += 2 * grams[at, layer]
        added[at, layer] = torch.inf
    return order


def run(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    order = reuse_order(workload, settings["interval"])
    reused = order[: round(settings["reused"] * len(order))]
    return LayerRun(workload, frozenset(reused)).sample()


SHARES = (
    0.0,
    0.1,
    0.2,
    0.3,
    0.35,
    0.4,
    0.45,
    0.5,
    0.55,
    0.6,
    0.65,
    0.7,
    0.75,
    0.8,
    0.84,
    0.88,
    0.91,
    0.94,
    0.96,
    0.98,
    1.0,
)
PEERS = (
    Peer(
        "learning-to-cache",
        "arXiv 2406.01733",
        run,
        knob="reused",
        knobs=SHARES,
        variants=tuple({"interval": interval} for interval in (2, 3, 6)),
    ),
)
