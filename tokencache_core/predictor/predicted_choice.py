"""Token choice by the scores of a Cache Predictor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..blocks.call import BlockCall
from ..engine.forecast import TokenHistory
from ..engine.spans import ComputedSpan
from ..engine.token_choice import mean_rate
from .token_scores import CachePredictor


class PredictedPlanner:
    """A planner that ranks each block's tokens by predicted score x time waited.

    A score says how much error a token gathers per unit of time while it is not computed; without the factor of time
    the same tokens would win on every P-step. Scores are predicted once per window, on the first P-step after an
    I-step, or on every P-step (`every_step`).
    """

    per_block = True
    computed_span: type[ComputedSpan] = ComputedSpan

    def __init__(self, predictor: CachePredictor, every_step: bool = False) -> None:
        self.predictor, self.every_step = predictor, every_step
        self.full_tau = 1.0
        self.scores: dict[tuple[int, int], Tensor] = {}  # per (images, N): (images, N, L - K)
        self.last_tau: dict[tuple[int, int], Tensor] = {}  # of the same shape: when each token was last computed
        self.looked: dict[tuple[int, int], float] = {}  # tau of the last look, so that split conditionings share it

    def computed_all(self, tau: float) -> None:
        self.full_tau = tau
        self.scores.clear()
        self.last_tau.clear()
        self.looked.clear()

    def look(self, call: BlockCall, images: int, tau: float, histories: Sequence[TokenHistory]) -> None:
        key = (images, call.n_image)
        if not histories or self.looked.get(key) == tau or (key in self.scores and not self.every_step):
            return
        self.looked[key] = tau
        rate = mean_rate(images, call.n_image, histories).repeat(call.tokens.shape[0] // images, 1)
        scores = self.predictor(call, tau, rate)
        self.scores[key] = scores.view(-1, images, *scores.shape[1:]).mean(dim=0)
        self.last_tau.setdefault(key, torch.full_like(self.scores[key], self.full_tau).detach())

    def ranking(
        self, block: int, images: int, n_tokens: int, count: int, tau: float, histories: Sequence[TokenHistory]
    ) -> Tensor:
        key = (images, n_tokens)
        last_tau = self.last_tau[key][:, :, block]
        urgency = self.scores[key][:, :, block] * (last_tau - tau).abs()
        ranking = urgency.argsort(dim=1, descending=True)
        last_tau.scatter_(1, ranking[:, :count], tau)  # a view: the planner's own record
        return ranking
