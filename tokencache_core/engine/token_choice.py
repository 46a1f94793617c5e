"""Token choice: a ranking, per evaluation and image, of the tokens that a P-step computes.

Choosing the tokens with the largest change, or even with the largest true error, is worse than choosing at random: the
same tokens win every time and the others are never computed. A useful score therefore grows with the time that a token
has waited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..blocks.call import BlockCall
from ..sampling.polynomial import weighted_sum
from ..settings import CacheSettings
from .forecast import TokenHistory
from .spans import ComputedSpan


class Planner(Protocol):
    """Ranks the tokens of one run. All conditionings of an image share a ranking.

    per_block: whether every block has a ranking of its own.
    computed_span: the class of the spans that compute some tokens.
    """

    @property
    def per_block(self) -> bool: ...

    @property
    def computed_span(self) -> type[ComputedSpan]: ...

    def computed_all(self, tau: float) -> None:
        """Called when an I-step at `tau` refreshes every token."""

    def look(self, call: BlockCall, images: int, tau: float, histories: Sequence[TokenHistory]) -> None:
        """Called before the first block of a P-step. call: the block's call. Other arguments: as in `ranking`."""

    def ranking(
        self, block: int, images: int, n_tokens: int, count: int, tau: float, histories: Sequence[TokenHistory]
    ) -> Tensor:
        """(images, N): token numbers, the most urgent first.

        block: for which the ranking is made, if `per_block`.
        count: the largest number of tokens that a block will compute.
        histories: of some of the spans that compute some tokens, with rows ordered by conditioning.
        """
        ...


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
        self.last_tau: dict[tuple[int, int], Tensor] = {}  # by (images, N): when each token was last computed
        self.rates: dict[tuple[int, int], Tensor] = {}  # by (images, N): change rates, measured once per I-step

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
            self.rates[key] = rate + 1e-6 * rate.mean()  # so that even a token that never changed is computed some time
            self.last_tau[key] = torch.full_like(rate, self.full_tau)
        scores = staleness_scores((self.last_tau[key] - tau).abs(), self.rates[key])
        ranking = scores.argsort(dim=1, descending=True)
        self.last_tau[key].scatter_(1, ranking[:, :count], tau)
        return ranking


def mean_rate(images: int, n_tokens: int, histories: Sequence[TokenHistory]) -> Tensor:
    """(images, N): change rate of the image tokens, averaged over spans and conditionings."""
    rates = [_image_rate(history, images, n_tokens) for history in histories]
    return weighted_sum([1.0] * len(rates), rates) / len(rates)


def _image_rate(history: TokenHistory, images: int, n_tokens: int) -> Tensor:
    """(images, N): change rate of the image tokens, averaged over conditionings."""
    rate = history.of_image(history.change_rate(), n_tokens)
    return rate.view(-1, images, n_tokens).mean(dim=0)


def random_scores(images: int, n_tokens: int, generator: torch.Generator) -> Tensor:
    """(images, N): uniform random scores, the baseline that every other score has to beat."""
    return torch.rand(images, n_tokens, generator=generator)


def round_robin_scores(images: int, n_tokens: int, cursor: int, generator: torch.Generator) -> Tensor:
    """(images, N): scores that take tokens in turn, in a fixed random order, starting at `cursor`."""
    order = torch.randperm(n_tokens, generator=generator)
    waiting = (order - cursor) % n_tokens
    return -waiting.float().expand(images, -1)


def staleness_scores(waited: Tensor, change_rate: Tensor) -> Tensor:
    """(images, N): time since the token was last computed, times the rate at which its updates change.

    The product estimates how far a reused update has drifted; a token just computed scores zero.

    waited: (images, N), in tau.
    change_rate: (images, N), update norm per unit of tau.
    """
    return waited * change_rate
