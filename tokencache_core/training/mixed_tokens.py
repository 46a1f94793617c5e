"""Training's counterpart of a token index: all tokens are computed, and weights mix computed and reused ones."""

from __future__ import annotations

import torch
from torch import Tensor


class MixedTokens:
    """Per-token weights for mixing computed and reused tokens.

    weights: (R, N), with their gradient: 1 takes the computed token, 0 the reused one.
    chosen: (R, N), the tokens whose computed values are kept for later steps.
    """

    alike = True  # all rows compute the same tokens: all of them

    def __init__(self, weights: Tensor, chosen: Tensor) -> None:
        self.weights, self.chosen = weights, chosen

    @property
    def flat(self) -> Tensor:
        """The chosen tokens in a batch flattened over rows and tokens."""
        return self.chosen.flatten().nonzero().squeeze(1)

    @property
    def count(self) -> int:
        """The number of computed tokens: all."""
        return self.weights.shape[1]

    @property
    def n_tokens(self) -> int:
        return self.weights.shape[1]

    def with_text(self, n_text: int, text_first: bool = True) -> MixedTokens:
        """These weights for a joint stream, with `n_text` computed text tokens before or after the image tokens."""

        def joint(image: Tensor) -> Tensor:
            text = image.new_ones(image.shape[0], n_text)
            return torch.cat([text, image] if text_first else [image, text], dim=1)

        return MixedTokens(joint(self.weights), joint(self.chosen))

    def gather(self, x: Tensor, dim: int = 1) -> Tensor:
        """The computed tokens of `x`: all."""
        return x

    def mix(self, reused: Tensor, computed: Tensor) -> Tensor:
        """The paper's a f + (1 - a) cached, for tokens (R, N, D)."""
        return torch.lerp(reused, computed.to(reused.dtype), self.weights[..., None].to(reused.dtype))

    def scatter_(self, kept: Tensor, computed: Tensor, dim: int = 1) -> Tensor:
        """The mixture of both; the chosen tokens' computed values are also written into `kept`.

        kept, computed: of the same shape; dimension `dim` counts tokens.
        """
        shape = [self.weights.shape[0], *[1] * (kept.ndim - 1)]
        shape[dim] = self.weights.shape[1]
        mixed = torch.lerp(kept.clone(), computed, self.weights.view(shape).to(kept.dtype))
        kept.copy_(torch.where(self.chosen.view(shape), computed.detach(), kept))
        return mixed
