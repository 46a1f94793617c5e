"""The transformer of Open-Sora-Plan 1.1 (and 1.0), in the manner of Latte (Ma et al. 2024, arXiv 2401.03048): spatial
blocks, in which tokens attend within their frame and to the text, alternate with temporal blocks, in which they attend
to the same place in the other frames.

The stream is one of *columns*: the tokens of one place in all frames, side by side, are one vector of frames x width.
So a spatial and a temporal block together are one block over columns, which can be run on some of them: attention
within each frame is attention among columns with as many more heads as there are frames, and attention over time stays
within a column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks.attention import attention as core_attention
from .config import VideoConfig
from .layers import Attention, ModulatedBlock, PatchTransformer, modulated
from .positions import frame_code, place_code


class FactorisedAttention(Attention):
    """Attention within frames, or over time."""

    def within_frames(self, x: Tensor, options: dict) -> Tensor:
        """x (B, N, F, D): tokens attend to the N tokens of their frame; frames are further heads."""
        q, k, v = (project(x).flatten(2) for project in (self.to_q, self.to_k, self.to_v))  # each (B, N, F*D)
        out = self.attention(q, k, v, x.shape[2] * self.heads, transformer_options=options)
        return self.to_out[0](out.view(x.shape))

    def over_frames(self, x: Tensor, options: dict) -> Tensor:
        """x (B, N, F, D): tokens attend to the F tokens of their place; places are further rows of the batch."""
        q, k, v = (project(x).flatten(0, 1) for project in (self.to_q, self.to_k, self.to_v))  # each (B*N, F, D)
        out = self.attention(q, k, v, self.heads, transformer_options=options)
        return self.to_out[0](out.view(x.shape))


class _FactorisedBlock(ModulatedBlock):
    attn1: FactorisedAttention

    def __init__(self, width: int, heads: int, attention: Callable, operations: Any, **factory: Any) -> None:
        attn1 = FactorisedAttention(width, heads, attention, operations, **factory)
        super().__init__(width, attn1, operations, **factory)


class SpatialBlock(_FactorisedBlock):
    def __init__(self, width: int, heads: int, attention: Callable, operations: Any, **factory: Any) -> None:
        super().__init__(width, heads, attention, operations, **factory)
        self.attn2 = Attention(width, heads, attention, operations, **factory)

    def forward(self, x: Tensor, c: Tensor, text: Tensor, options: dict) -> Tensor:
        """x (B, N, F, D) tokens, c (B, 6, D) timestep, text (B, L, D) -> (B, N, F, D)."""
        shift_a, scale_a, gate_a, *of_feed_forward = self.modulation(x, c)
        x = torch.addcmul(x, gate_a, self.attn1.within_frames(modulated(x, shift_a, scale_a), options))
        x = x + self.attn2.to_text(x, text, options)
        return self.feed_forward(x, *of_feed_forward)


class TemporalBlock(_FactorisedBlock):
    def forward(self, x: Tensor, c: Tensor, options: dict) -> Tensor:
        """x (B, N, F, D) tokens, c (B, 6, D) timestep -> (B, N, F, D)."""
        shift_a, scale_a, gate_a, *of_feed_forward = self.modulation(x, c)
        x = torch.addcmul(x, gate_a, self.attn1.over_frames(modulated(x, shift_a, scale_a), options))
        return self.feed_forward(x, *of_feed_forward)


class ColumnBlock(nn.Module):
    """A spatial block and the temporal block after it, over columns."""

    def __init__(self, width: int, heads: int, attention: Callable, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.width = width
        self.spatial = SpatialBlock(width, heads, attention, operations, **factory)
        self.temporal = TemporalBlock(width, heads, attention, operations, **factory)

    def forward(
        self, x: Tensor, c: Tensor, text: Tensor, frame_code: Tensor | None, transformer_options: dict
    ) -> Tensor:
        """x (B, N, F*D) -> (B, N, F*D).

        c: (B, 6, D), of the timestep.
        text: (B, L, D).
        frame_code: (F, D), added between the two blocks; None but in the first block.
        """
        tokens = self.spatial(x.unflatten(-1, (-1, self.width)), c, text, transformer_options)  # (B, N, F, D)
        if tokens.shape[2] > 1:  # a single picture has no temporal blocks
            if frame_code is not None:
                tokens = tokens + frame_code
            tokens = self.temporal(tokens, c, transformer_options)
        return tokens.flatten(2)


class VideoTransformer(PatchTransformer):
    """Predicts the noise in x (B, C, F, H, W) at timesteps t (B,) in [0, 1000) for text tokens context (B, L, C_text).

    H and W must be multiples of the patch size.

    config: the shape.
    operations: the classes of layers: torch.nn, or a host's.
    attention: called with q, k, v (each (B, N, D)), the number of heads, and transformer_options.
    dtype, device: of the weights.
    """

    def __init__(
        self,
        config: VideoConfig,
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
            out_channels=config.out_channels,
            caption_channels=config.caption_channels,
            operations=operations,
            dtype=dtype,
            device=device,
        )
        self.config = config
        factory = {"dtype": dtype, "device": device}
        self.blocks = nn.ModuleList(
            ColumnBlock(config.width, config.heads, attention, operations, **factory) for _ in range(config.depth)
        )

    def forward(self, x: Tensor, t: Tensor, context: Tensor, transformer_options: dict | None = None) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        self.check_size(*x.shape[-2:])
        embedded, c = self.adaln_single(t, x.dtype)
        text = self.caption_projection(context)
        frames = frame_code(x.shape[2], self.config.width, self.config.frame_stride).to(x)
        columns = self.embed(x).flatten(2)  # (B, N, F*D)
        for index, block in enumerate(self.blocks):
            columns = block(columns, c, text, None if index else frames, transformer_options=options)
        return self.unembed(columns.unflatten(-1, (x.shape[2], -1)), embedded, *x.shape[-2:])

    def embed(self, x: Tensor) -> Tensor:
        """The tokens (B, N, F, D) of x (B, C, F, H, W): its patches, with the code of their places."""
        config = self.config
        rows, columns = (side // config.patch_size for side in x.shape[-2:])
        base, scale = config.sample_size // config.patch_size, max(config.sample_size // 64, 1)
        return self.pos_embed(x) + place_code(rows, columns, config.width, base, scale).to(x)[:, None]

    @property
    def patch_size(self) -> tuple[None, int, int]:
        """The size of a token in the latent: a place over all frames."""
        return (None, self.config.patch_size, self.config.patch_size)

    def noise_shape(self, batch: int) -> tuple[int, int, int, int, int]:
        """The shape (B, C, F, H, W) of samples at the size that it was trained on."""
        config = self.config
        return (batch, config.in_channels, config.video_length, config.sample_size, config.sample_size)
