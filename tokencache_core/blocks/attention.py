"""Scaled dot-product attention with one place to reach its keys and values.

The signature is the one ComfyUI's `optimized_attention` has, so that a module written against
it runs unchanged in the host (which passes its own function in) and on the command line.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

OVERRIDE_KEY = "optimized_attention_override"


def _split_heads(x: Tensor, heads: int) -> Tensor:
    B, N, width = x.shape
    return x.view(B, N, heads, width // heads).transpose(1, 2)  # (B, H, N, d)


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, **_: Any) -> Tensor:
    B, N, width = q.shape
    out = F.scaled_dot_product_attention(*(_split_heads(x, heads) for x in (q, k, v)), attn_mask=mask)
    return out.transpose(1, 2).reshape(B, N, width)


def attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, transformer_options: dict | None = None
) -> Tensor:
    """Multi-head attention of q (B, N, H*d) over k, v (B, M, H*d), returning (B, N, H*d).

    A callable under `transformer_options["optimized_attention_override"]` is called instead, with the
    plain function first, exactly as ComfyUI does: this is where the engine puts the other tokens' keys and values in.
    """
    override = (transformer_options or {}).get(OVERRIDE_KEY)
    if override is None:
        return _plain_attention(q, k, v, heads, mask)
    return override(_plain_attention, q, k, v, heads, mask=mask, transformer_options=transformer_options)
