"""Scaled dot-product attention with one hook for access to its keys and values.

It has the signature of ComfyUI's `optimized_attention`, so that a module written for it runs unchanged in the host
(which passes in its own function) and on the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

OVERRIDE_KEY = "optimized_attention_override"
# an attention that is not a single call of `attention`: (q, k, v, mask of all keys, transformer_options) -> its output
OwnAttention = Callable[[Tensor, Tensor, Tensor, Tensor | None, dict[str, Any]], Tensor]


def _split_heads(x: Tensor, heads: int) -> Tensor:
    B, N, width = x.shape
    return x.view(B, N, heads, width // heads).transpose(1, 2)  # (B, H, N, d)


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, **_: Any) -> Tensor:
    B, N, width = q.shape
    if mask is not None and mask.ndim == 3:  # (B, queries, keys)
        mask = mask.unsqueeze(1)
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


def with_all_keys(
    attend: OwnAttention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, transformer_options: dict[str, Any]
) -> Tensor:
    """The output of `attend`, an attention of a form of its own, which calls `attention` inside. The engine adds the
    other tokens' keys and values here (`engine.attention_hook.AttentionHook.around`), and not inside.

    q, k, v: (B, N, anything), with one entry for each of the block's tokens.
    mask: of all keys, or None.
    """
    hook = transformer_options.get(OVERRIDE_KEY)
    around = getattr(hook, "around", None)
    if around is None:
        return attend(q, k, v, mask, transformer_options)
    return around(attend, q, k, v, mask, transformer_options)
