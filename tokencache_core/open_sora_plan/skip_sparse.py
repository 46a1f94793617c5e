"""The transformer of Open-Sora-Plan 1.3 (Lin et al. 2024, arXiv 2412.00131): full attention over space and time, which
in all but the first and the last two blocks is sparse. That of 1.2 is the same with dense attention throughout.

The stream is one of *cells* (cells.py): what a block is run on is always whole cells, side by side in one vector of
k * k x width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks.attention import attention as core_attention
from ..blocks.attention import with_all_keys
from .cells import as_sequences, cell_order, cell_sides, from_sequences
from .config import SkipSparseConfig
from .layers import Attention, ModulatedBlock, PatchTransformer, modulated
from .positions import MAX_PERIOD

FIRST_SPARSE, FIRST_DENSE_AGAIN = 2, 30  # numbers of blocks, whatever the depth
EXCLUDED = -1e4  # added to the scores of keys that are padding; finite in half precision

Rotation = tuple[Tensor, Tensor]  # cosines and sines of angles, (1, cells, k * k, head width / 2)


def rotations(
    frames: int, rows: int, columns: int, width: int, stretch: Sequence[float], device: torch.device | None = None
) -> Rotation:
    """Cosines and sines (frames * rows * columns, width / 2) of the angles by which heads of this width are turned: a
    third each by frame, row and column (Su et al., arXiv 2104.09864).

    stretch: by which positions along these are divided.
    """
    grid, half = (frames, rows, columns), width // 6
    frequencies = MAX_PERIOD ** (-torch.arange(half, dtype=torch.float64) / half)

    def in_grid(function: Callable[[Tensor], Tensor]) -> Tensor:
        parts = []
        for axis, (count, by) in enumerate(zip(grid, stretch)):
            angles = (torch.arange(count, dtype=torch.float64) / by)[:, None] * frequencies
            shape = [count if each == axis else 1 for each in range(3)]
            parts.append(function(angles).float().to(device).view(*shape, half).expand(*grid, half))
        return torch.cat(parts, dim=-1).flatten(0, 2)

    return in_grid(torch.cos), in_grid(torch.sin)


def rotated(x: Tensor, rotation: Rotation, heads: int) -> Tensor:
    """x (B, N, n, D) with the two halves of each third of its heads turned."""
    cos, sin = (part.unflatten(-1, (1, 3, -1)).to(x) for part in rotation)  # (1, N, n, 1, 3, width / 6)
    a, b = x.unflatten(-1, (heads, 3, 2, -1)).unbind(-2)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-2).flatten(-4)


class SkipSparseAttention(Attention):
    """Attention among the tokens of all cells, or of those with the same rest.

    skip: 1: it is dense.
    grouped: which of the two kinds of sparse attention.
    """

    def __init__(
        self, width: int, heads: int, attention: Callable, operations: Any, *, skip: int, grouped: bool, **factory: Any
    ) -> None:
        super().__init__(width, heads, attention, operations, **factory)
        self.width, self.skip, self.grouped = width, skip, grouped

    def among_cells(self, x: Tensor, rotation: Rotation, padding: Tensor | None, options: dict) -> Tensor:
        """x (B, N, n, D), N cells of n tokens. padding: (1, N, n), EXCLUDED where a token is none, or None."""
        q, k = (rotated(project(x), rotation, self.heads).flatten(2) for project in (self.to_q, self.to_k))
        mask = None if padding is None else padding.to(x).flatten(1)[:, None]  # (1, 1, N*n): the same for all queries
        out = with_all_keys(self._attend, q, k, self.to_v(x).flatten(2), mask, options)  # (B, N, n*D)
        return self.to_out[0](out.view(x.shape))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: dict) -> Tensor:
        """Attention of the cells q (B, N, n*D) to the cells k, v (B, M, n*D). mask: (1 or B, 1, M*n)."""
        size = q.shape[-1] // self.width
        q, k, v = (self._sequences(x, size) for x in (q, k, v))
        if mask is not None:
            rows = self._sequences(mask.view(len(mask), -1, size), size)  # (1 or B * skip, M * skip, 1)
            mask = rows.transpose(1, 2).repeat(len(q) // len(rows), 1, 1)
        out = self.attention(q, k, v, self.heads, mask=mask, transformer_options=options)
        cells = out.unflatten(1, (-1, size)) if self.skip == 1 else from_sequences(out, self.skip, self.grouped)
        return cells.flatten(2)

    def _sequences(self, x: Tensor, size: int) -> Tensor:
        """The sequences of x (B, N, size * D) of which each attends to itself: (B * skip, N * size / skip, D)."""
        x = x.unflatten(-1, (size, -1))
        return x.flatten(1, 2) if self.skip == 1 else as_sequences(x, self.skip, self.grouped)


class SkipSparseBlock(ModulatedBlock):
    attn1: SkipSparseAttention

    def __init__(
        self, width: int, heads: int, attention: Callable, operations: Any, *, skip: int, grouped: bool, **factory: Any
    ) -> None:
        attn1 = SkipSparseAttention(width, heads, attention, operations, skip=skip, grouped=grouped, **factory)
        super().__init__(width, attn1, operations, **factory)
        self.width = width
        self.attn2 = Attention(width, heads, attention, operations, **factory)

    def forward(
        self, x: Tensor, c: Tensor, text: Tensor, rotation: Rotation, padding: Tensor | None, transformer_options: dict
    ) -> Tensor:
        """Cells x (B, N, n*D) -> the same shape.

        c: (B, 6, D), of the timestep.
        text: (B, L, D).
        rotation, padding: as in `SkipSparseAttention.among_cells`.
        """
        tokens = x.unflatten(-1, (-1, self.width))  # (B, N, n, D)
        shift_a, scale_a, gate_a, *of_feed_forward = self.modulation(tokens, c)
        attended = self.attn1.among_cells(modulated(tokens, shift_a, scale_a), rotation, padding, transformer_options)
        tokens = torch.addcmul(tokens, gate_a, attended)
        tokens = tokens + self.attn2.to_text(tokens, text, transformer_options)
        return self.feed_forward(tokens, *of_feed_forward).flatten(2)


class SkipSparseTransformer(PatchTransformer):
    """Predicts v, or the noise, in x (B, C, F, H, W) at timesteps t (B,) in [0, 1000) for text tokens context
    (B, L, C_text).

    H and W must be multiples of the patch size.

    config: the shape.
    operations: the classes of layers: torch.nn, or a host's.
    attention: called with q, k, v (each (B, N, D)), the number of heads, a mask, and transformer_options.
    dtype, device: of the weights.
    """

    def __init__(
        self,
        config: SkipSparseConfig,
        *,
        operations: Any = nn,
        attention: Callable = core_attention,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            width=config.width,
            patch_size=config.patch_size,
            in_channels=config.in_channels,
            out_channels=config.in_channels,
            caption_channels=config.caption_channels,
            operations=operations,
            dtype=dtype,
            device=device,
        )
        self.config = config
        self.transformer_blocks = nn.ModuleList(
            SkipSparseBlock(
                config.width,
                config.heads,
                attention,
                operations,
                skip=config.skip if FIRST_SPARSE <= number < FIRST_DENSE_AGAIN else 1,
                grouped=number % 2 == 1,
                dtype=dtype,
                device=device,
            )
            for number in range(config.depth)
        )

    def forward(self, x: Tensor, t: Tensor, context: Tensor, transformer_options: dict | None = None) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        self.check_size(*x.shape[-2:])
        grid = self._grid(x.shape)
        order = cell_order(*grid, self.config.skip).to(x.device)  # (N, n)
        count = grid[0] * grid[1] * grid[2]
        embedded, c = self.adaln_single(t, x.dtype)
        text = self.caption_projection(context)
        tokens = self.pos_embed(x).transpose(1, 2).flatten(1, 2)  # (B, F*rows*columns, D)
        cells = _padded(tokens, 1, order.numel())[:, order].flatten(2)  # (B, N, n*D)
        rotation, padding = self._rotation(grid, order), _padding(order, count)
        for block in self.transformer_blocks:
            cells = block(cells, c, text, rotation, padding, transformer_options=options)
        place_of = order.flatten().argsort()[:count]  # of each token, in the cells
        tokens = cells.unflatten(-1, (-1, self.width)).flatten(1, 2)[:, place_of]
        by_place = tokens.unflatten(1, (grid[0], -1)).transpose(1, 2)  # (B, rows*columns, F, D)
        return self.unembed(by_place, embedded, *x.shape[-2:])

    def _grid(self, latent: Sequence[int]) -> tuple[int, int, int]:
        """Frames, rows and columns of tokens of a latent (B, C, F, H, W)."""
        return (latent[-3], latent[-2] // self.patch, latent[-1] // self.patch)

    def _rotation(self, grid: tuple[int, int, int], order: Tensor) -> Rotation:
        config = self.config
        cos, sin = (
            _padded(part, 0, order.numel())[order][None]
            for part in rotations(*grid, config.width // config.heads, config.stretch, order.device)
        )
        return cos, sin

    def patch_size_in(self, latent: Sequence[int]) -> tuple[int, int, int]:
        """The size of a cell in a latent (B, C, F, H, W); where cells are no rectangles, that of a token."""
        sides = cell_sides(*self._grid(latent)[1:], self.config.skip) or (1, 1)
        return (1, sides[0] * self.patch, sides[1] * self.patch)

    def noise_shape(self, batch: int) -> tuple[int, int, int, int, int]:
        """The shape (B, C, F, H, W) of samples at the size of the configuration."""
        config = self.config
        return (batch, config.in_channels, config.sample_frames, config.sample_height, config.sample_width)


def _padded(x: Tensor, dim: int, length: int) -> Tensor:
    """x with zeros after it along a dimension."""
    missing = length - x.shape[dim]
    return x if not missing else torch.cat([x, x.new_zeros((*x.shape[:dim], missing, *x.shape[dim + 1 :]))], dim)


def _padding(order: Tensor, count: int) -> Tensor | None:
    """(1, N, n): EXCLUDED where a cell's token is padding; None if there is none."""
    return None if order.numel() == count else ((order >= count).float() * EXCLUDED)[None]
