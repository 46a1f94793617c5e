"""A model whose numbers can be worked out by hand: every block adds gain * tau^power to every token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokencache_core.blocks.spec import BlockSpec
from tokencache_core.engine.network_call import cached_blocks
from tokencache_core.engine.session import Session

TOY_BLOCK = BlockSpec(tokens="x")


class ToyBlock(nn.Module):
    def __init__(self, gain: float, power: int = 1) -> None:
        super().__init__()
        self.gain, self.power, self.calls = gain, power, []

    def forward(self, x: Tensor, tau: float) -> Tensor:
        self.calls.append(x.shape[1])
        return x + self.gain * tau**self.power


class ToyModel:
    """`run(session, tau)` evaluates the blocks on zeros (rows, N, 2), so that the output is the sum of all updates."""

    def __init__(self, gains: tuple[float, ...], power: int = 1, n_tokens: int = 4) -> None:
        self.blocks = [ToyBlock(gain, power) for gain in gains]
        self.n_tokens = n_tokens

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(TOY_BLOCK.stream for _ in self.blocks)

    def __call__(self, rows: int, tau: float) -> Tensor:
        x = torch.zeros(rows, self.n_tokens, 2)
        for block in self.blocks:
            x = block(x, tau)
        return x

    def run(
        self,
        session: Session,
        tau: float,
        rows: int = 1,
        key: str = "rows",
        images: int = 1,
        nothing_between_blocks: bool = True,
    ) -> Tensor:
        blocks = [(block, TOY_BLOCK) for block in self.blocks]
        with (
            session.evaluation(tau),
            cached_blocks(session, blocks, key=key, images=images, nothing_between_blocks=nothing_between_blocks),
        ):
            return self(rows, tau)
