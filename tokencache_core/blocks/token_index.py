"""Gathering and scattering of chosen tokens in a batch, with different tokens in each row."""

from __future__ import annotations

import torch
from torch import Tensor


class TokenIndex:
    """The tokens chosen in each row of a batch.

    tokens: (R, n), indices of the chosen tokens.
    n_tokens: N, the number of tokens per row.
    alike: every row has the same tokens, in the same order.
    """

    def __init__(self, tokens: Tensor, n_tokens: int, alike: bool = False) -> None:
        self.tokens, self.n_tokens, self.alike = tokens, n_tokens, alike
        self.joint: dict[tuple[int, bool], TokenIndex] = {}
        rows = tokens.shape[0]
        starts = torch.arange(rows, device=tokens.device)[:, None] * n_tokens
        self.flat = (tokens + starts).reshape(-1)  # (R*n,), indices into a batch flattened over rows and tokens

    @property
    def count(self) -> int:
        return self.tokens.shape[1]

    def with_text(self, n_text: int, text_first: bool = True) -> TokenIndex:
        """The same tokens, and all text tokens, in a joint stream. The result is cached.

        n_text: number of text tokens.
        text_first: whether they come before the image tokens.
        """
        if n_text == 0:
            return self
        key = (n_text, text_first)
        if key not in self.joint:
            self.joint[key] = self._joint(n_text, text_first)
        return self.joint[key]

    def _joint(self, n_text: int, text_first: bool) -> TokenIndex:
        text = torch.arange(n_text, device=self.tokens.device).expand(self.tokens.shape[0], -1)
        parts = [text, self.tokens + n_text] if text_first else [self.tokens, text + self.n_tokens]
        return TokenIndex(torch.cat(parts, dim=1), n_text + self.n_tokens, self.alike)

    def gather(self, x: Tensor, dim: int = 1, frames: bool = False) -> Tensor:
        """The chosen tokens of x, whose tokens lie along dimension `dim`.

        Unless the rows are alike, dimension 0 of x is that of the rows, or has length 1.

        frames: the entries along `dim` may be for frames instead, each of equally many consecutive tokens; every chosen
            token then gets its frame's entry.
        """
        dim = dim % x.ndim
        per_entry = -(-self.n_tokens // x.shape[dim]) if frames else 1
        if per_entry == 1 and x.shape[dim] != self.n_tokens:
            raise ValueError(f"dimension {dim} of shape {tuple(x.shape)} should have {self.n_tokens} tokens")
        if self.alike:
            return x.index_select(dim, self.tokens[0] // per_entry)
        rows = self.tokens.shape[0]
        if dim == 0:  # no row dimension: every row would need a copy of its own
            raise ValueError("a tensor without a row dimension cannot be cut per row")
        if x.shape[0] != rows:
            x = x.expand(rows, *x.shape[1:])
        x = x.movedim(dim, 1)
        entries = x.shape[1]
        flat = self.flat if per_entry == 1 else self._flat_frames(per_entry, entries)
        chosen = x.reshape(rows * entries, *x.shape[2:]).index_select(0, flat)
        return chosen.view(rows, self.count, *x.shape[2:]).movedim(1, dim)

    def _flat_frames(self, per_entry: int, entries: int) -> Tensor:
        starts = torch.arange(self.tokens.shape[0], device=self.tokens.device)[:, None] * entries
        return (self.tokens // per_entry + starts).reshape(-1)

    def chosen_before(self, bound: int) -> int:
        """How many of the chosen tokens come before token `bound`; the rows must be alike."""
        if not self.alike:
            raise ValueError("rows with different tokens have no common bounds")
        return int((self.tokens[0] < bound).sum())

    def scatter_(self, x: Tensor, values: Tensor, dim: int = 1) -> Tensor:
        """Write values at the chosen tokens of x, in place."""
        if dim == 1 and x.is_contiguous():
            x.view(-1, *x.shape[2:]).index_copy_(0, self.flat, values.reshape(-1, *values.shape[2:]).to(x.dtype))
        else:
            rows = torch.arange(x.shape[0], device=x.device)[:, None]
            x.movedim(dim, 1)[rows, self.tokens] = values.movedim(dim, 1).to(x.dtype)
        return x
