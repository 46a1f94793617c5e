"""The Cache Predictor (TokenCache, arXiv 2409.18523, section 3): a score for every token in every cacheable block.

It sees the inputs of the model's first block, once for all blocks. The kind "block" is the paper's: a copy of the first
block, conditioned like the model, and a linear head. "light" is a small network on each token alone, for models with
large blocks. Both start with equal scores.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from ..blocks.call import BlockCall
from .shared_weights import own_copy

KINDS = ("block", "light")
LIGHT_HIDDEN = 64


class CachePredictor(nn.Module):
    """The base of both kinds: a head with `n_scores` sigmoids, one for each cacheable block, on `width` features."""

    kind: str

    def __init__(self, width: int, n_scores: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, n_scores)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, call: BlockCall, tau: float, rate: Tensor) -> Tensor:
        """Features (R, N, width) of the image tokens. Arguments: as in `forward`."""
        raise NotImplementedError

    def forward(self, call: BlockCall, tau: float, rate: Tensor) -> Tensor:
        """Scores (R, N, n_scores) of the image tokens, in (0, 1).

        call: the call of the model's first block.
        tau: the noise time.
        rate: (R, N), how fast the tokens' updates have been changing.
        """
        return self.head(self.features(call, tau, rate)).sigmoid()


class BlockPredictor(CachePredictor):
    """The paper's predictor: a copy of the model's first block, then the head."""

    kind = "block"

    def __init__(self, first_block: nn.Module, width: int, n_scores: int) -> None:
        super().__init__(width, n_scores)
        self.block = own_copy(first_block)
        self.block.__dict__.pop("forward", None)  # the engine's swapped one, if the model is copied during a run

    def features(self, call: BlockCall, tau: float, rate: Tensor) -> Tensor:
        tokens = call.of_image(call.output_tokens(call.run_in(self.block, self.head.weight.dtype)))
        return layer_norm(tokens.float(), tokens.shape[-1:])


class LightPredictor(CachePredictor):
    """A small predictor: one hidden layer on each token, the time and the token's rate of change, then the head."""

    kind = "light"

    def __init__(self, width: int, n_scores: int, hidden: int = LIGHT_HIDDEN) -> None:
        super().__init__(hidden, n_scores)
        self.into = nn.Linear(width + 3, hidden)

    def features(self, call: BlockCall, tau: float, rate: Tensor) -> Tensor:
        tokens = call.image_tokens.float()
        others = torch.stack([torch.full_like(rate, tau), torch.full_like(rate, tau**2), (rate + 1e-6).log()], dim=-1)
        return gelu(self.into(torch.cat([layer_norm(tokens, tokens.shape[-1:]), others], dim=-1)), approximate="tanh")


def new_predictor(kind: str, first_block: nn.Module, width: int, n_scores: int) -> CachePredictor:
    """An untrained Cache Predictor.

    kind: one of KINDS.
    first_block: the model's.
    width: D of the tokens that the first block is given.
    n_scores: the number of cacheable blocks.
    """
    if kind == "block":
        return BlockPredictor(first_block, width, n_scores)
    if kind == "light":
        return LightPredictor(width, n_scores)
    raise ValueError(f"the predictor's kind must be one of {', '.join(KINDS)}, not {kind!r}")


def predictor_from_tensors(kind: str, tensors: Mapping[str, Tensor], first_block: nn.Module) -> CachePredictor:
    """The Cache Predictor with this state dict, for the model with this first block; ValueError if they do not fit."""
    try:
        n_scores, width = tensors["head.weight"].shape
        if kind == "light":
            hidden, width = tensors["into.weight"].shape
            with torch.device("meta"):  # nothing is allocated before the shapes are known to fit
                predictor = LightPredictor(width - 3, n_scores, hidden)
        else:
            predictor = new_predictor(kind, first_block, width, n_scores)
        predictor.load_state_dict(dict(tensors), assign=True)
    except (KeyError, RuntimeError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()[:120]
        raise ValueError(f"the Cache Predictor does not fit this model ({reason}); train one for it") from None
    return predictor.requires_grad_(False)
