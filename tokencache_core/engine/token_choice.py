"""Token choice: which tokens a P-step computes, ranked once per evaluation and image.

Picking the tokens with the largest change, or even with the largest true error, loses to picking them at random: the
same ones win every time and the others starve. A useful score therefore grows with the time a token has waited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..blocks.call import BlockCall
from ..settings import CacheSettings
from .forecast import TokenHistory
from .spans import ComputedSpan


class Planner(Protocol):
    """Ranks tokens; a run has one. All conditionings of an image share its rankings.

    per_block: whether blocks have rankings of their own. computed_span: the class of the spans that compute some
    tokens.
    """

    per_block: bool
    computed_span: type[ComputedSpan]

    def computed_all(self, tau: float) -> None:
        """An I-step at `tau` refreshed every token."""

    def look(self, call: BlockCall, images: int, tau: float, histories: Sequence[TokenHistory]) -> None:
        """Before the first block of a P-step runs, with what it is given. Else as `ranking`."""

    def ranking(
        self, block: int, images: int, n_tokens: int, count: int, tau: float, histories: Sequence[TokenHistory]
    ) -> Tensor:
        """(images, N) token numbers, the most urgent first; the first `count` are the most a block will compute.

        histories: of some of the blocks that compute some tokens, rows ordered conditioning by conditioning.
        """


class ScorePlanner:
    """Ranks by a score that needs no training."""

    per_block = False
    computed_span = ComputedSpan

    def __init__(self, settings: CacheSettings) -> None:
        self.score = settings.score
        self.seed = settings.seed
        self.random = torch.Generator().manual_seed(settings.seed)
        self.cursor = 0
        self.full_tau = 1.0
        self.last_tau: dict[tuple[int, int], Tensor] = {}  # per (images, N): when each token was last computed
        self.rates: dict[tuple[int, int], Tensor] = {}  # change rates, measured once per I-step

    def computed_all(self, tau: float) -> None:
        self.full_tau = tau
        self.last_tau.clear()
        self.rates.clear()

    def look(self, call: BlockCall, images: int, tau: float, histories: Sequence[TokenHistory]) -> None:
        pass

    def ranking(
        self, block: int, images: int, n_tokens: int, count: int, tau: float, histories: Sequence[TokenHistory]
    ) -> Tensor:
        if self.score == "random":
            return random_scores(images, n_tokens, self.random).argsort(dim=1)
        if self.score == "round-robin":
            order = torch.Generator().manual_seed(self.seed)
            scores = round_robin_scores(images, n_tokens, self.cursor, order)
            self.cursor = (self.cursor + count) % n_tokens
            return scores.argsort(dim=1, descending=True)
        return self._by_staleness(images, n_tokens, count, tau, histories)

    def _by_staleness(
        self, images: int, n_tokens: int, count: int, tau: float, histories: Sequence[TokenHistory]
    ) -> Tensor:
        key = (images, n_tokens)
        if key not in self.rates:
            rate = mean_rate(images, n_tokens, histories)
            self.rates[key] = rate + 1e-6 * rate.mean()  # a token that never changed still has its turn in the end
            self.last_tau[key] = torch.full_like(rate, self.full_tau)
        scores = staleness_scores((self.last_tau[key] - tau).abs(), self.rates[key])
        ranking = scores.argsort(dim=1, descending=True)
        self.last_tau[key].scatter_(1, ranking[:, :count], tau)
        return ranking


def mean_rate(images: int, n_tokens: int, histories: Sequence[TokenHistory]) -> Tensor:
    """(images, N) change rate of the image tokens, averaged over blocks and conditionings."""
    return sum(_image_rate(history, images, n_tokens) for history in histories) / len(histories)


def _image_rate(history: TokenHistory, images: int, n_tokens: int) -> Tensor:
    """(images, N) change rate of the image tokens, averaged over conditionings."""
    rate = history.of_image(history.change_rate(), n_tokens)
    return rate.view(-1, images, n_tokens).mean(dim=0)


def random_scores(images: int, n_tokens: int, generator: torch.Generator) -> Tensor:
    """(images, N) uniform scores: the control that every other score has to beat."""
    return torch.rand(images, n_tokens, generator=generator)


def round_robin_scores(images: int, n_tokens: int, cursor: int, generator: torch.Generator) -> Tensor:
    """(images, N) scores that take the tokens in turn along a fixed random order, starting at `cursor`."""
    order = torch.randperm(n_tokens, generator=generator)
    waiting = (order - cursor) % n_tokens
    return -waiting.float().expand(images, -1)


def staleness_scores(waited: Tensor, change_rate: Tensor) -> Tensor:
    """(images, N): time waited since the token was last computed x how fast its updates change.

    waited: (images, N) in tau. change_rate: (images, N), update norm per unit of tau. The product estimates how far
    a reused update has drifted; a token just computed scores zero.
    """
    return waited * change_rate
