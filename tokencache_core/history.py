"""Cached updates and their forecast.

An *update* is what a block (or a run of blocks) adds to a token, gates included. Its last `order + 1` refreshes are
kept with the tau of each, and a reused update is the polynomial through them at the present tau: order 0 is plain
reuse, as in the paper; orders 1 and 2 are what TaylorSeer (arXiv 2503.06923) does with finite differences, here for
refresh times of any spacing, and token by token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .learned_forecast import LearnedForecast


def lagrange_weights(nodes: list[float], tau: float) -> list[float]:
    """Weights w with p(tau) = sum_k w_k p(nodes_k) for every polynomial p of degree < len(nodes)."""
    weights = []
    for node in nodes:
        weight = 1.0
        for other in nodes:
            if other != node:
                weight *= (tau - other) / (node - other)
        weights.append(weight)
    return weights


def _as_stream(out: Tensor, dtype: torch.dtype) -> Tensor:
    """float32 sums in the stream's dtype; float16 saturates instead of overflowing, as the hosts' blocks do."""
    return out.clamp(-65504, 65504).to(dtype) if dtype == torch.float16 else out.to(dtype)


class RunHistory:
    """Updates of a unit whose tokens are always refreshed together: one time for all of them."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.taus: list[float] = []
        self.updates: list[Tensor] = []     # each (R, N, D) float32

    def refresh(self, update: Tensor, tau: float, spacing: float = 0.0) -> None:
        """Keep `update` (owned by the history from here on).

        It replaces one kept no further than `spacing` from `tau`: nodes that near would turn rounding into huge weights.
        Else, where the history is full, it replaces the one kept furthest from `tau`.
        """
        distances = [abs(kept - tau) for kept in self.taus]
        if distances and min(distances) <= spacing:
            slot = distances.index(min(distances))
        elif len(self.taus) <= self.order:
            slot = len(self.taus)
        else:
            slot = distances.index(max(distances))
        self.taus[slot : slot + 1] = [tau]
        self.updates[slot : slot + 1] = [update]

    def add_forecast(self, x: Tensor, tau: float, learned: LearnedForecast | None = None) -> Tensor:
        """x + the update forecast at tau, corrected by `learned` where there is one; a fresh tensor of x's dtype."""
        out = x.float()
        for weight, update in zip(lagrange_weights(self.taus, tau), self.updates):
            out = torch.add(out, update, alpha=weight) if out is x else out.add_(update, alpha=weight)
        if learned is not None:
            newest_first, terms = self.terms(tau)
            out = out + learned(terms, newest_first, tau)
        return _as_stream(out, x.dtype)

    def terms(self, tau: float) -> tuple[list[float], list[Tensor]]:
        """The refreshes' taus, the newest first, and what each adds to the forecast at `tau`; the first is the newest update."""
        newest = sorted(range(len(self.taus)), key=lambda slot: self.taus[slot])
        taus, updates = [self.taus[slot] for slot in newest], [self.updates[slot] for slot in newest]
        terms, before = [], [0.0] * len(taus)
        for count in range(1, len(taus) + 1):
            weights = lagrange_weights(taus[:count], tau) + [0.0] * (len(taus) - count)
            terms.append(sum((now - then) * update for now, then, update in zip(weights[:count], before, updates)))
            before = weights
        return taus, terms

    @property
    def memory_bytes(self) -> int:
        return sum(update.nbytes for update in self.updates)


class TokenHistory:
    """Updates of a block some of whose tokens are refreshed at a time: every token has refresh times of its own."""

    def __init__(self, order: int, shape: torch.Size, device: torch.device) -> None:
        rows, n_tokens, width = shape
        self.shape = shape
        self.updates = torch.zeros(order + 1, rows * n_tokens, width, device=device)           # float32
        self.taus = torch.full((order + 1, rows * n_tokens), torch.nan, device=device)         # nan: not yet filled

    def refresh(self, update: Tensor, tau: float, flat: Tensor | None = None, spacing: float = 0.0) -> None:
        """Keep `update` of the tokens `flat` (indices into rows * N; None: all), in the slots `RunHistory.refresh` takes."""
        index = torch.arange(self.taus.shape[1], device=self.taus.device) if flat is None else flat
        taus = self.taus[:, index]
        distance = (taus - tau).abs()
        # taus lie in [0, 1]: the nearest of the near comes first, then an empty slot, then the furthest
        urgency = torch.where(distance <= spacing, 4 - distance, distance)
        slot = urgency.nan_to_num(nan=2.0).argmax(dim=0)
        self.updates[slot, index] = update.reshape(len(index), self.updates.shape[-1]).float()
        self.taus[slot, index] = tau

    def add_forecast(self, x: Tensor, tau: float) -> Tensor:
        """x (R, N, D) + each token's update forecast at tau, a fresh tensor of x's dtype."""
        weights = self._weights(tau)
        out = torch.addcmul(x.float().reshape(self.updates.shape[1:]), self.updates[0], weights[0][:, None])
        for weight, update in zip(weights[1:], self.updates[1:]):
            out.addcmul_(update, weight[:, None])
        return _as_stream(out.view(self.shape), x.dtype)

    def change_rate(self) -> Tensor:
        """(R, N): how fast each token's update moved between its two newest refreshes, norm per unit of tau."""
        if self.taus.shape[0] < 2:
            return torch.ones(self.shape[:2], device=self.taus.device)
        newest, previous, spacing = self.newest_two()
        return ((newest - previous).norm(dim=-1) / spacing).view(self.shape[:2])

    def newest_two(self) -> tuple[Tensor, Tensor, Tensor]:
        """Each token's newest update and the one before it (R * N, D), and how far apart they are in tau (R * N,)."""
        order = self.taus.nan_to_num(nan=torch.inf).argsort(dim=0)[:2]  # tau falls: the newest are the smallest
        every = torch.arange(self.taus.shape[1], device=self.taus.device)
        spacing = (self.taus[order[1], every] - self.taus[order[0], every]).abs().nan_to_num(nan=1.0)
        return self.updates[order[0], every], self.updates[order[1], every], spacing

    @property
    def memory_bytes(self) -> int:
        return self.updates.nbytes + self.taus.nbytes

    def _weights(self, tau: float) -> Tensor:
        """Lagrange weights (order + 1, rows * N) of each token's slots; an empty slot weighs nothing."""
        spread = self.taus[:, None] - self.taus[None]                  # node k less node j; 0 where j = k, nan if empty
        factors = torch.where(spread.abs() > 0, (tau - self.taus)[None] / spread, 1.0)
        return torch.where(self.taus.isnan(), 0.0, factors.prod(dim=1))
