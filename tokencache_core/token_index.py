"""Gathering and scattering chosen tokens of a batch, each row with tokens of its own."""

from __future__ import annotations

import torch
from torch import Tensor


class TokenIndex:
    """The tokens (R, n) chosen in each of R rows of N tokens."""

    def __init__(self, tokens: Tensor, n_tokens: int) -> None:
        self.tokens, self.n_tokens = tokens, n_tokens
        self.joint: dict[int, TokenIndex] = {}
        rows = tokens.shape[0]
        starts = torch.arange(rows, device=tokens.device)[:, None] * n_tokens
        self.flat = (tokens + starts).reshape(-1)  # (R*n,) into a batch flattened over rows and tokens

    @property
    def count(self) -> int:
        return self.tokens.shape[1]

    def with_text(self, n_text: int) -> TokenIndex:
        """The same tokens in a joint stream of n_text text tokens, all chosen, followed by the image's; made once."""
        if n_text == 0:
            return self
        if n_text not in self.joint:
            self.joint[n_text] = self._joint(n_text)
        return self.joint[n_text]

    def _joint(self, n_text: int) -> TokenIndex:
        text = torch.arange(n_text, device=self.tokens.device).expand(self.tokens.shape[0], -1)
        return TokenIndex(torch.cat([text, self.tokens + n_text], dim=1), n_text + self.n_tokens)

    def gather(self, x: Tensor, dim: int = 1) -> Tensor:
        """The chosen tokens of x, whose dimension `dim` counts tokens and whose dimension 0 counts rows (or is 1)."""
        dim = dim % x.ndim
        if x.shape[dim] != self.n_tokens:
            raise ValueError(f"dimension {dim} of shape {tuple(x.shape)} should count {self.n_tokens} tokens")
        rows = self.tokens.shape[0]
        if dim == 0:  # no row dimension: every row would need a copy of its own
            raise ValueError("a tensor without a row dimension cannot be cut per row")
        if x.shape[0] != rows:
            x = x.expand(rows, *x.shape[1:])
        x = x.movedim(dim, 1)
        chosen = x.reshape(rows * self.n_tokens, *x.shape[2:]).index_select(0, self.flat)
        return chosen.view(rows, self.count, *x.shape[2:]).movedim(1, dim)

    def scatter_(self, x: Tensor, values: Tensor, dim: int = 1) -> Tensor:
        """Write values at the chosen tokens of x, in place."""
        if dim == 1 and x.is_contiguous():
            x.view(-1, *x.shape[2:]).index_copy_(0, self.flat, values.reshape(-1, *values.shape[2:]).to(x.dtype))
        else:
            rows = torch.arange(x.shape[0], device=x.device)[:, None]
            x.movedim(dim, 1)[rows, self.tokens] = values.movedim(dim, 1).to(x.dtype)
        return x
