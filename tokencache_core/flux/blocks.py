"""The two kinds of blocks of a Flux transformer, with the host's names of arguments and parameters.

Double-stream blocks have weights of their own for image and text, which meet in one attention (MMDiT: Esser et al.,
arXiv 2403.03206, section 4). Single-stream blocks compute attention and MLP of one joint stream side by side
(Dehghani et al., arXiv 2302.05442, section 2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .config import FluxConfig
from .layers import Modulation, QueryKeyNorm, attention, modulated, split_heads
from .rotary import rotate


class StreamAttention(nn.Module):
    """The queries, keys and values of one stream, and the projection of its share of the attention's output."""

    def __init__(self, config: FluxConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_heads
        self.qkv = operations.Linear(width, 3 * width, **factory)
        self.norm = QueryKeyNorm(width // self.heads, **factory)
        self.proj = operations.Linear(width, width, **factory)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = split_heads(self.qkv(x), self.heads)
        return *self.norm(q, k), v


def _norm(config: FluxConfig, operations: Any, **factory: Any) -> nn.Module:
    return operations.LayerNorm(config.hidden_size, elementwise_affine=False, eps=1e-6, **factory)


def _mlp(config: FluxConfig, operations: Any, **factory: Any) -> nn.Sequential:
    width, hidden = config.hidden_size, config.mlp_hidden
    return nn.Sequential(
        operations.Linear(width, hidden, **factory),
        nn.GELU(approximate="tanh"),
        operations.Linear(hidden, width, **factory),
    )


class DoubleStreamBlock(nn.Module):
    """Image tokens (B, N, D) and text tokens (B, M, D) through a joint attention and an MLP each."""

    def __init__(self, config: FluxConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.img_mod, self.txt_mod = (Modulation(config.hidden_size, 2, operations, **factory) for _ in range(2))
        self.img_norm1, self.txt_norm1 = (_norm(config, operations, **factory) for _ in range(2))
        self.img_attn, self.txt_attn = (StreamAttention(config, operations, **factory) for _ in range(2))
        self.img_norm2, self.txt_norm2 = (_norm(config, operations, **factory) for _ in range(2))
        self.img_mlp, self.txt_mlp = (_mlp(config, operations, **factory) for _ in range(2))

    def forward(
        self,
        img: Tensor,
        txt: Tensor,
        vec: Tensor,
        pe: Tensor,
        attn_mask: Tensor | None = None,
        transformer_options: dict | None = None,
    ) -> tuple[Tensor, Tensor]:
        img_shift1, img_scale1, img_gate1, img_shift2, img_scale2, img_gate2 = self.img_mod(vec)
        txt_shift1, txt_scale1, txt_gate1, txt_shift2, txt_scale2, txt_gate2 = self.txt_mod(vec)
        of_text = self.txt_attn(modulated(self.txt_norm1(txt), txt_shift1, txt_scale1))
        of_image = self.img_attn(modulated(self.img_norm1(img), img_shift1, img_scale1))
        q, k, v = (torch.cat(both, dim=2) for both in zip(of_text, of_image))
        mixed = attention(
            rotate(q, pe), rotate(k, pe), v, self.heads, attn_mask, transformer_options=transformer_options
        )
        from_text, from_image = mixed[:, : txt.shape[1]], mixed[:, txt.shape[1] :]
        img = img + img_gate1 * self.img_attn.proj(from_image)
        img = img + img_gate2 * self.img_mlp(modulated(self.img_norm2(img), img_shift2, img_scale2))
        txt = txt + txt_gate1 * self.txt_attn.proj(from_text)
        txt = txt + txt_gate2 * self.txt_mlp(modulated(self.txt_norm2(txt), txt_shift2, txt_scale2))
        return img, txt


class SingleStreamBlock(nn.Module):
    """Text and image tokens in one stream x (B, M + N, D): attention and MLP in parallel."""

    def __init__(self, config: FluxConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_heads
        self.split = (3 * width, config.mlp_hidden)
        self.modulation = Modulation(width, 1, operations, **factory)
        self.pre_norm = _norm(config, operations, **factory)
        self.linear1 = operations.Linear(width, sum(self.split), **factory)
        self.linear2 = operations.Linear(width + config.mlp_hidden, width, **factory)
        self.norm = QueryKeyNorm(width // self.heads, **factory)

    def forward(
        self,
        x: Tensor,
        vec: Tensor,
        pe: Tensor,
        attn_mask: Tensor | None = None,
        transformer_options: dict | None = None,
    ) -> Tensor:
        shift, scale, gate = self.modulation(vec)
        qkv, hidden = self.linear1(modulated(self.pre_norm(x), shift, scale)).split(self.split, dim=-1)
        q, k, v = split_heads(qkv, self.heads)
        q, k = self.norm(q, k)
        mixed = attention(
            rotate(q, pe), rotate(k, pe), v, self.heads, attn_mask, transformer_options=transformer_options
        )
        return x + gate * self.linear2(torch.cat([mixed, nn.functional.gelu(hidden, approximate="tanh")], dim=-1))
