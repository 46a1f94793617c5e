"""The transformer of Open-Sora-Plan 1.1 (and 1.0), in the manner of Latte (Ma et al. 2024, arXiv 2401.03048): spatial
blocks, in which tokens attend within their frame and to the text, alternate with temporal blocks, in which they attend
to the same place in the other frames.

The stream is one of *columns*: the tokens of one place in all frames, side by side, are one vector of frames x width.
So a spatial and a temporal block together are one block over columns, which can be run on some of them: attention
within each frame is attention among columns with as many more heads as there are frames, and attention over time stays
within a column.

Layers come from `operations` (torch.nn, or ComfyUI's casting and offloading layers) and attention from a callable, so
that one module serves the command line and the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, silu

from ..blocks.attention import attention as core_attention
from .config import VideoConfig
from .positions import frame_code, place_code, timestep_features

EPS = 1e-6


class Attention(nn.Module):
    """The projections of a multi-head attention, and the attention itself over the second dimension of its tokens."""

    def __init__(self, width: int, heads: int, attention: Callable, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.to_q, self.to_k, self.to_v = (operations.Linear(width, width, **factory) for _ in range(3))
        self.to_out = nn.ModuleList([operations.Linear(width, width, **factory)])

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

    def to_text(self, x: Tensor, text: Tensor, options: dict) -> Tensor:
        """x (B, N, F, D): tokens attend to the text (B, L, D)."""
        q = self.to_q(x).flatten(1, 2)  # (B, N*F, D)
        out = self.attention(q, self.to_k(text), self.to_v(text), self.heads, transformer_options=options)
        return self.to_out[0](out.view(x.shape))


class GELUProjection(nn.Module):
    def __init__(self, width: int, hidden: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(width, hidden, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    def __init__(self, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        into = GELUProjection(width, 4 * width, operations, **factory)
        self.net = nn.ModuleList([into, nn.Identity(), operations.Linear(4 * width, width, **factory)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class _Modulated(nn.Module):
    """What both kinds of block have: self-attention and a feed-forward, shifted, scaled and gated by the timestep."""

    def __init__(self, width: int, heads: int, attention: Callable, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.empty(6, width, **factory))
        self.attn1 = Attention(width, heads, attention, operations, **factory)
        self.ff = FeedForward(width, operations, **factory)

    def _modulation(self, x: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate of the attention, then of the feed-forward, each (B, 1, 1, D). c: (B, 6, D)."""
        return (self.scale_shift_table.to(x) + c)[:, :, None, None].unbind(1)

    def _feed_forward(self, x: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        return torch.addcmul(x, gate, self.ff(modulated(x, shift, scale)))


class SpatialBlock(_Modulated):
    def __init__(self, width: int, heads: int, attention: Callable, operations: Any, **factory: Any) -> None:
        super().__init__(width, heads, attention, operations, **factory)
        self.attn2 = Attention(width, heads, attention, operations, **factory)

    def forward(self, x: Tensor, c: Tensor, text: Tensor, options: dict) -> Tensor:
        """x (B, N, F, D) tokens, c (B, 6, D) timestep, text (B, L, D) -> (B, N, F, D)."""
        shift_a, scale_a, gate_a, *of_feed_forward = self._modulation(x, c)
        x = torch.addcmul(x, gate_a, self.attn1.within_frames(modulated(x, shift_a, scale_a), options))
        x = x + self.attn2.to_text(x, text, options)
        return self._feed_forward(x, *of_feed_forward)


class TemporalBlock(_Modulated):
    def forward(self, x: Tensor, c: Tensor, options: dict) -> Tensor:
        """x (B, N, F, D) tokens, c (B, 6, D) timestep -> (B, N, F, D)."""
        shift_a, scale_a, gate_a, *of_feed_forward = self._modulation(x, c)
        x = torch.addcmul(x, gate_a, self.attn1.over_frames(modulated(x, shift_a, scale_a), options))
        return self._feed_forward(x, *of_feed_forward)


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


class PatchEmbedding(nn.Module):
    def __init__(self, channels: int, width: int, patch_size: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.proj = operations.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, N, F, D)."""
        batch = x.shape[0]
        patches = self.proj(x.transpose(1, 2).flatten(0, 1)).flatten(2)  # (B*F, D, N)
        return patches.unflatten(0, (batch, -1)).permute(0, 3, 1, 2)


class TwoLinears(nn.Module):
    def __init__(self, inputs: int, width: int, activation: Callable, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.activation = activation
        self.linear_1 = operations.Linear(inputs, width, **factory)
        self.linear_2 = operations.Linear(width, width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(x)))


class TimestepEmbedding(nn.Module):
    def __init__(self, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": TwoLinears(256, width, silu, operations, **factory)})
        self.linear = operations.Linear(width, 6 * width, **factory)

    def forward(self, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """t (B,) -> (B, D) for the last layer, and (B, 6, D) for the blocks."""
        embedded = self.emb["timestep_embedder"](timestep_features(t).to(dtype))
        return embedded, self.linear(silu(embedded)).unflatten(-1, (6, -1))


class VideoTransformer(nn.Module):
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
        super().__init__()
        self.config, self.dtype = config, dtype or torch.get_default_dtype()
        factory = {"dtype": dtype, "device": device}
        width = config.width
        self.pos_embed = PatchEmbedding(config.in_channels, width, config.patch_size, operations, **factory)
        self.adaln_single = TimestepEmbedding(width, operations, **factory)
        self.caption_projection = TwoLinears(
            config.caption_channels, width, lambda x: gelu(x, approximate="tanh"), operations, **factory
        )
        self.blocks = nn.ModuleList(
            ColumnBlock(width, config.heads, attention, operations, **factory) for _ in range(config.depth)
        )
        self.scale_shift_table = nn.Parameter(torch.empty(2, width, **factory))
        self.proj_out = operations.Linear(width, config.patch_size**2 * config.out_channels, **factory)

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

    def unembed(self, tokens: Tensor, embedded: Tensor, height: int, width: int) -> Tensor:
        """The noise (B, C, F, H, W), without the variance half, of tokens (B, N, F, D). embedded: (B, D)."""
        patch, channels = self.config.patch_size, self.config.in_channels
        shift, scale = (self.scale_shift_table.to(tokens) + embedded[:, None])[:, :, None, None].unbind(1)
        patches = self.proj_out(modulated(tokens, shift, scale))  # (B, N, F, p*p*C_out)
        grid = patches.unflatten(-1, (patch, patch, -1)).unflatten(1, (height // patch, width // patch))
        return grid[..., :channels].permute(0, 6, 3, 1, 4, 2, 5).reshape(len(tokens), channels, -1, height, width)

    @property
    def patch_size(self) -> tuple[None, int, int]:
        """The size of a token in the latent: a place over all frames."""
        return (None, self.config.patch_size, self.config.patch_size)

    def noise_shape(self, batch: int) -> tuple[int, int, int, int, int]:
        """The shape (B, C, F, H, W) of samples at the size that it was trained on."""
        config = self.config
        return (batch, config.in_channels, config.video_length, config.sample_size, config.sample_size)

    def check_size(self, height: int, width: int) -> None:
        """ValueError for a latent's size that is not a whole number of patches."""
        patch = self.config.patch_size
        if height % patch or width % patch:
            raise ValueError(
                f"this model works on patches of {patch}x{patch}, but a latent of {height}x{width} is not a multiple "
                f"of {patch}; change height or width"
            )

    def initialise(self) -> None:
        """Initialise the weights for training from scratch: blocks and output begin as the identity and zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        proj = self.pos_embed.proj
        nn.init.xavier_uniform_(proj.weight.view(len(proj.weight), -1))
        nn.init.zeros_(proj.bias)
        for name, parameter in self.named_parameters():
            if name.endswith("scale_shift_table"):
                nn.init.normal_(parameter, std=self.config.width**-0.5)
            if name.endswith("attn2.to_out.0.weight"):
                nn.init.zeros_(parameter)
        for linear in (self.adaln_single.linear, self.proj_out):
            nn.init.zeros_(linear.weight)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The tokens (B, N, F, D), normalised, scaled and shifted."""
    return torch.addcmul(shift, layer_norm(x, x.shape[-1:], eps=EPS), 1 + scale)
