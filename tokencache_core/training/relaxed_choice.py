"""The relaxed token choice of training: every block computes all tokens, and weights that depend on the scores mix
them with the reused ones, so that the scores can be learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from ..blocks.call import BlockCall
from ..engine.forecast import TokenHistory
from ..engine.network_call import NetworkCall
from ..engine.spans import ComputedSpan
from ..predictor.predicted_choice import PredictedPlanner
from ..predictor.token_scores import CachePredictor
from .mixed_tokens import MixedTokens


def compute_and_mix(
    call: BlockCall, add_cached_update: Callable[[Tensor], Tensor], mix: MixedTokens
) -> tuple[object, Tensor]:
    """`engine.spans.compute_or_reuse` with every token computed, mixed by `mix` with the reused ones.

    Returns the block's output and the updates (n, D) of the chosen tokens.
    """
    before = call.tokens.clone() if call.spec.in_place else call.tokens
    reused = add_cached_update(before)
    output = call.run()
    computed = call.output_tokens(output)
    update = (computed.detach().float() - before.detach().float()).flatten(0, 1)[mix.flat]
    return call.as_output(mix.mix(reused, computed), call.output_text(output)), update


class MixedSpan(ComputedSpan):
    """A span whose blocks run in full on P-steps, their outputs mixed with the reused ones by a `RelaxedPlanner`."""

    def _compute_some(self, index: int, call: BlockCall, network: NetworkCall, history: TokenHistory) -> Any:
        planner = network.planner
        assert isinstance(planner, RelaxedPlanner)
        network.count(index, call, None)
        alike = call.tokens.shape[0] // network.images
        mix = MixedTokens(*[each.repeat(alike, 1) for each in planner.weights(index, network.images, call.n_image)])
        joint = mix.with_text(call.n_text, call.spec.text_first) if call.n_text else mix
        in_stream = mix if call.spec.text else joint
        with network.attention.through(self._extending(index, mix, joint, network)):
            output, update = compute_and_mix(call, partial(history.add_forecast, tau=network.tau), in_stream)
        history.refresh_some(update, network.tau, in_stream.flat)
        return output


class RelaxedPlanner(PredictedPlanner):
    """The planner of a training: each token's choice is a weight, 0 or 1 in the forward pass, its score in the backward
    pass.

    Blocks compete: the (1 - r) (L - K) N most urgent block-tokens of an image are chosen (the paper's quantisation).
    The weights are straight-through (arXiv 1308.3432), so a score learns whether its token was chosen or not. The
    gradient is that of each score minus the mean score: computing a token is nearly always better than reusing it, so
    the scores alone would all rise together until none differs from another, which a fixed budget makes meaningless.

    predictor, every_step: as for `PredictedPlanner`.
    compute_ratio: 1 - r, the share of block-tokens that are chosen.
    soft: the weights are the scores themselves, as in the paper's training.
    """

    computed_span: type[ComputedSpan] = MixedSpan

    def __init__(
        self, predictor: CachePredictor, compute_ratio: float, soft: bool = False, every_step: bool = False
    ) -> None:
        super().__init__(predictor, every_step)
        self.compute_ratio, self.soft = compute_ratio, soft
        self.chosen: dict[tuple[int, int], Tensor] = {}  # in the current evaluation: 0 or 1
        self.chosen_at: dict[tuple[int, int], float] = {}  # its tau
        self.relative: dict[tuple[int, int], Tensor] = {}  # scores less their mean
        self.marked = torch.zeros(predictor.head.out_features)  # block-tokens chosen so far, by block
        self.evaluations = 0
        self.mean_scores: list[Tensor] = []  # one per look since they were last taken, with their graphs
        self.spread = 0.0  # of the last window's scores: the largest minus the smallest

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
        """The weights (images, N) of a block with their gradient, and which tokens (images, N) count as computed."""
        key = (images, n_tokens)
        chosen, relative = self.chosen[key][:, :, block], self.relative[key][:, :, block]
        return (self.scores[key][:, :, block] if self.soft else chosen + relative - relative.detach()), chosen > 0

    def take_mean_score(self) -> Tensor | float:
        """The mean score since the last call, with its graph: the paper's second loss."""
        taken, self.mean_scores = self.mean_scores, []
        return reduce(torch.add, taken) / len(taken) if taken else 0.0

    def shares(self) -> tuple[float, ...]:
        """The share of its tokens that each block has computed so far: the paper's r_l."""
        return tuple((self.marked / max(1, self.evaluations)).tolist())
