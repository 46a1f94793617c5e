"""The layers that a Flux transformer's two kinds of blocks share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks.attention import OVERRIDE_KEY


def plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, **_: Any) -> Tensor:
    """Scaled dot-product attention of q, k and v (B, H, N, d) -> (B, N, H*d)."""
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, transformer_options: dict | None = None
) -> Tensor:
    """Attention of heads that are split already, (B, H, N, d) -> (B, N, H*d), or the override in
    `transformer_options`.
    """
    override: Callable | None = (transformer_options or {}).get(OVERRIDE_KEY)
    if override is None:
        return plain_attention(q, k, v, heads, mask)
    return override(
        plain_attention, q, k, v, heads, mask=mask, skip_reshape=True, transformer_options=transformer_options
    )


def timestep_features(t: Tensor, dim: int = 256, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal features (B, dim), cosines first, of flow times t (B,) in [0, 1], taken a thousandfold."""
    half = dim // 2
    frequency = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = 1000.0 * t.float()[:, None] * frequency
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


class Embedder(nn.Module):
    """A vector (B, C) to the network's width: linear, SiLU, linear."""

    def __init__(self, features: int, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.in_layer = operations.Linear(features, width, **factory)
        self.out_layer = operations.Linear(width, width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(nn.functional.silu(self.in_layer(x)))


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich, arXiv 1910.07467) with a learned gain, computed in float32."""

    def __init__(
        self, features: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps)
        return (wide * inverse * self.weight).to(x.dtype)


class QueryKeyNorm(nn.Module):
    """RMS norms of queries and keys, head by head (Dehghani et al., ViT-22B, arXiv 2302.05442, section 2)."""

    def __init__(self, head_width: int, **factory: Any) -> None:
        super().__init__()
        self.query_norm, self.key_norm = RMSNorm(head_width, **factory), RMSNorm(head_width, **factory)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return self.query_norm(q), self.key_norm(k)


class Modulation(nn.Module):
    """Shift, scale and gate of `count` sublayers from the condition (B, D): 3 * count of (B, 1, D)."""

    def __init__(self, width: int, count: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.count = count
        self.lin = operations.Linear(width, 3 * count * width, **factory)

    def forward(self, vec: Tensor) -> tuple[Tensor, ...]:
        return self.lin(nn.functional.silu(vec))[:, None].chunk(3 * self.count, dim=-1)


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 3*H*d) -> queries, keys and values (B, H, N, d)."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v
