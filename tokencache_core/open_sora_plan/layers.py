"""The layers that the video transformers of all versions share: attention, feed-forward, modulation by the timestep,
and what comes before and after the blocks. They are those of PixArt (Chen et al. 2023, arXiv 2310.00426). Parameter
names follow the releases.

Layers come from `operations` (torch.nn, or ComfyUI's casting and offloading layers) and attention from a callable, so
that one module serves the command line and the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, silu

from .positions import timestep_features

EPS = 1e-6


class Attention(nn.Module):
    """The projections of a multi-head attention, and attention to the text."""

    def __init__(self, width: int, heads: int, attention: Callable, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.to_q, self.to_k, self.to_v = (operations.Linear(width, width, **factory) for _ in range(3))
        self.to_out = nn.ModuleList([operations.Linear(width, width, **factory)])

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


class ModulatedBlock(nn.Module):
    """The base of all kinds of block: self-attention and a feed-forward, shifted, scaled and gated by the timestep.

    Tokens are (B, N, F, D): N of the tokens that the engine counts, each made of F.
    """

    def __init__(self, width: int, attention: Attention, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.empty(6, width, **factory))
        self.attn1 = attention
        self.ff = FeedForward(width, operations, **factory)

    def modulation(self, x: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate of the attention, then of the feed-forward, each (B, 1, 1, D). c: (B, 6, D)."""
        return (self.scale_shift_table.to(x) + c)[:, :, None, None].unbind(1)

    def feed_forward(self, x: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        return torch.addcmul(x, gate, self.ff(modulated(x, shift, scale)))


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


class PatchTransformer(nn.Module):
    """The base of the transformers, without blocks: patches, timestep and text on the way in, patches on the way out.

    H and W of x (B, C, F, H, W) must be multiples of the patch size.

    out_channels: C, or more, of which the first C are the prediction.
    dtype, device: of the weights.
    """

    def __init__(
        self,
        *,
        width: int,
        patch_size: int,
        in_channels: int,
        out_channels: int,
        caption_channels: int,
        operations: Any,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> None:
        super().__init__()
        self.dtype = dtype or torch.get_default_dtype()
        self.width, self.patch, self.in_channels = width, patch_size, in_channels
        factory = {"dtype": dtype, "device": device}
        self.pos_embed = PatchEmbedding(in_channels, width, patch_size, operations, **factory)
        self.adaln_single = TimestepEmbedding(width, operations, **factory)
        self.caption_projection = TwoLinears(
            caption_channels, width, lambda x: gelu(x, approximate="tanh"), operations, **factory
        )
        self.scale_shift_table = nn.Parameter(torch.empty(2, width, **factory))
        self.proj_out = operations.Linear(width, patch_size**2 * out_channels, **factory)

    def unembed(self, tokens: Tensor, embedded: Tensor, height: int, width: int) -> Tensor:
        """The prediction (B, C, F, H, W), without the variance half, of tokens (B, N, F, D). embedded: (B, D)."""
        patch, channels = self.patch, self.in_channels
        shift, scale = (self.scale_shift_table.to(tokens) + embedded[:, None])[:, :, None, None].unbind(1)
        patches = self.proj_out(modulated(tokens, shift, scale))  # (B, N, F, p*p*C_out)
        grid = patches.unflatten(-1, (patch, patch, -1)).unflatten(1, (height // patch, width // patch))
        return grid[..., :channels].permute(0, 6, 3, 1, 4, 2, 5).reshape(len(tokens), channels, -1, height, width)

    def check_size(self, height: int, width: int) -> None:
        """ValueError for a latent's size that is not a whole number of patches."""
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"this model works on patches of {self.patch}x{self.patch}, but a latent of {height}x{width} is not a "
                f"multiple of {self.patch}; change height or width"
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
                nn.init.normal_(parameter, std=self.width**-0.5)
            if name.endswith("attn2.to_out.0.weight"):
                nn.init.zeros_(parameter)
        for linear in (self.adaln_single.linear, self.proj_out):
            nn.init.zeros_(linear.weight)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The tokens (B, N, F, D), normalised, scaled and shifted."""
    return torch.addcmul(shift, layer_norm(x, x.shape[-1:], eps=EPS), 1 + scale)
