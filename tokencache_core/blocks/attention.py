"""Scaled dot-product attention with one hook for access to its keys and values.

It has the signature of ComfyUI's `optimized_attention`, so that a module written for it runs unchanged in the host
(which passes in its own function) and on the command line.
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
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    transformer_options: dict[str, Any] | None = None,
) -> Tensor:
    """Multi-head attention of q (B, N, H*d) over k, v (B, M, H*d); returns (B, N, H*d).

    As in ComfyUI, a callable under `transformer_options["optimized_attention_override"]` is called instead, with the
    plain function as its first argument. There the engine adds the other tokens' keys and values.
    """
    override = (transformer_options or {}).get(OVERRIDE_KEY)
    if override is None:
        return _plain_attention(q, k, v, heads, mask)
    return override(_plain_attention, q, k, v, heads, mask=mask, transformer_options=transformer_options)
