"""Which image tokens each block computed in one evaluation: counts for the report, and bit masks for display."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks.token_index import TokenIndex

ALL, NONE, NOT_KEPT = "all", "none", "not kept"


@dataclass(frozen=True)
class BlockGroup:
    """Neighbouring blocks first..last that computed the same tokens.

    computed: ALL, NONE, NOT_KEPT or the index of a mask.
    """

    first: int
    last: int
    computed: str | int


@dataclass(frozen=True)
class ComputedTokens:
    """The tokens that each block computed.

    groups: all blocks that ran.
    masks: (masks, images, ceil(N / 8)) uint8, bits in numpy.packbits' order.
    """

    groups: tuple[BlockGroup, ...] = ()
    masks: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, dtype=torch.uint8), repr=False)


class ShownTokens:
    """The tokens that one call of the network computes, collected block by block for the report to show.

    images, n_tokens: number of rows, and of image tokens per row.
    """

    def __init__(self, images: int, n_tokens: int, device: torch.device) -> None:
        self.images, self.n_tokens, self.device = images, n_tokens, device
        self.blocks: dict[int, TokenIndex | None] = {}

    def add(self, block: int, compute: TokenIndex | None) -> None:
        """Add a block. compute: None for all tokens. Blocks that compute the same tokens must share one index."""
        self.blocks[block] = compute

    def result(self, max_bytes: int) -> tuple[Tensor, ComputedTokens]:
        """How many blocks computed each token, (images, N), and which blocks, unless the masks exceed `max_bytes`.

        Everything stays on the device, so that nothing waits for it.
        """
        chosen = {id(index): index for index in self.blocks.values() if index is not None and index.count}
        masks = [self._mask(index) for index in chosen.values()]
        numbers = {which: number for number, which in enumerate(chosen)}
        marks = {block: self._mark(index, numbers) for block, index in self.blocks.items()}
        each = list(marks.values())
        counts = torch.full((self.images, self.n_tokens), float(each.count(ALL)), device=self.device)
        for number, mask in enumerate(masks):
            counts += mask * each.count(number)
        if len(masks) * self.images * -(-self.n_tokens // 8) > max_bytes:
            masks.clear()
            marks.update({block: NOT_KEPT for block, mark in marks.items() if isinstance(mark, int)})
        groups = _grouped(marks)
        return counts, ComputedTokens(groups, pack_bits(torch.stack(masks))) if masks else ComputedTokens(groups)

    def _mask(self, index: TokenIndex) -> Tensor:
        mask = torch.zeros(self.images, self.n_tokens, dtype=torch.uint8, device=self.device)
        return mask.scatter_(1, index.tokens[: self.images], 1)

    @staticmethod
    def _mark(index: TokenIndex | None, numbers: dict[int, int]) -> str | int:
        if index is None:
            return ALL
        return numbers[id(index)] if index.count else NONE


def _grouped(marks: dict[int, str | int]) -> tuple[BlockGroup, ...]:
    groups: list[BlockGroup] = []
    for block in sorted(marks):
        if groups and (groups[-1].last, groups[-1].computed) == (block - 1, marks[block]):
            groups[-1] = BlockGroup(groups[-1].first, block, marks[block])
        else:
            groups.append(BlockGroup(block, block, marks[block]))
    return tuple(groups)


def pack_bits(mask: Tensor) -> Tensor:
    """Pack (..., N) uint8 zeros and ones into (..., ceil(N / 8)) uint8, in numpy.packbits' order, on any device."""
    padded = F.pad(mask, (0, -mask.shape[-1] % 8))
    eights = padded.reshape(*padded.shape[:-1], padded.shape[-1] // 8, 8)
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=mask.device)
    return (eights << places).sum(dim=-1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, n: int) -> Tensor:
    """The inverse of `pack_bits`: (..., n) uint8 zeros and ones."""
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    return ((packed[..., None] >> places) & 1).flatten(-2)[..., :n]
