"""Plans by a Cache Predictor's scores: at inference, and relaxed, so that the scores can be learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..blocks.call import BlockCall
from ..engine.forecast import TokenHistory
from ..engine.token_choice import mean_rate
from .token_scores import CachePredictor


class PredictedPlanner:
    """Ranks each block's tokens by predicted score x the time that they have waited.

    A score says how much a token loses per unit of time when it is not computed; without the time the same tokens
    would win on every P-step. Scores are predicted once per window, on the first P-step after an I-step, or on every
    P-step (`every_step`).
    """

    per_block = True

    def __init__(self, predictor: CachePredictor, every_step: bool = False) -> None:
        self.predictor, self.every_step = predictor, every_step
        self.full_tau = 1.0
        self.scores: dict[tuple[int, int], Tensor] = {}      # per (images, N): (images, N, L - K)
        self.last_tau: dict[tuple[int, int], Tensor] = {}    # the same, when each was last computed
        self.looked: dict[tuple[int, int], float] = {}       # tau of the last look: conditionings that come apart share it

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
        self, block: int, images: int, n_tokens: int, count: int, tau: float, histories: Sequence[TokenHistory],
    ) -> Tensor:
        key = (images, n_tokens)
        last_tau = self.last_tau[key][:, :, block]
        urgency = self.scores[key][:, :, block] * (last_tau - tau).abs()
        ranking = urgency.argsort(dim=1, descending=True)
        last_tau.scatter_(1, ranking[:, :count], tau)        # a view: the planner's own record
        return ranking


class RelaxedPlanner(PredictedPlanner):
    """For training: every block runs whole, and what is computed is a weight, 0 or 1 forward, the score backward.

    Blocks compete: the (1 - r) (L - K) N most urgent block-tokens of an image are computed (the paper's quantisation).
    The weights are straight-through (arXiv 1308.3432), so a score learns both from what was computed and what was not. What
    learns is each score less their mean: it is nearly always better to compute a token than not to, so the scores alone would all
    rise together, which the budget makes meaningless, until none differs from another.
    soft: the weights are the scores themselves, as in the paper's training.
    """

    def __init__(self, predictor: CachePredictor, compute_ratio: float, soft: bool = False, every_step: bool = False) -> None:
        super().__init__(predictor, every_step)
        self.compute_ratio, self.soft = compute_ratio, soft
        self.chosen: dict[tuple[int, int], Tensor] = {}      # of the evaluation under way: 0 or 1
        self.chosen_at: dict[tuple[int, int], float] = {}    # its tau
        self.relative: dict[tuple[int, int], Tensor] = {}    # scores less their mean
        self.marked = torch.zeros(predictor.head.out_features)   # block-tokens chosen so far, by block
        self.evaluations = 0
        self.mean_scores: list[Tensor] = []                  # of each look since they were last taken, with their graphs
        self.spread = 0.0                                    # of the last window's scores: the greatest less the least

    def look(self, call: BlockCall, images: int, tau: float, histories: Sequence[TokenHistory]) -> None:
        key = (images, call.n_image)
        if self.chosen_at.get(key) == tau:
            return
        super().look(call, images, tau, histories)
        if key not in self.scores:
            return
        self.chosen_at[key] = tau
        scores, last_tau = self.scores[key], self.last_tau[key]
        self.mean_scores.append(scores.mean())
        self.spread = float(scores.detach().max() - scores.detach().min())
        urgency = (scores.detach() * (last_tau - tau).abs()).flatten(1)
        most_urgent = urgency.topk(max(1, round(self.compute_ratio * urgency.shape[1])), dim=1).indices
        chosen = torch.zeros_like(urgency).scatter_(1, most_urgent, 1.0).view_as(scores)
        self.chosen[key], self.relative[key] = chosen, scores - scores.mean(dim=(1, 2), keepdim=True)
        last_tau.masked_fill_(chosen > 0, tau)
        self.marked += chosen.mean(dim=(0, 1)).cpu()
        self.evaluations += 1

    def weights(self, block: int, images: int, n_tokens: int) -> tuple[Tensor, Tensor]:
        """(images, N) weights with their gradient, and which tokens count as computed."""
        key = (images, n_tokens)
        chosen, relative = self.chosen[key][:, :, block], self.relative[key][:, :, block]
        return (self.scores[key][:, :, block] if self.soft else chosen + relative - relative.detach()), chosen > 0

    def take_mean_score(self) -> Tensor | float:
        """The mean score since it was last taken, with its graph: the paper's second loss."""
        taken, self.mean_scores = self.mean_scores, []
        return sum(taken) / max(1, len(taken))

    def shares(self) -> tuple[float, ...]:
        """The share of its tokens that each block was found to compute: the paper's r_l."""
        return tuple((self.marked / max(1, self.evaluations)).tolist())
