"""Cached updates and their forecast.

An *update* is what a block (or a span of blocks) adds to a token, gates included. Its last `order + 1` refreshes are
kept with the tau of each, and a reused update is the polynomial through them at the present tau: order 0 is plain
reuse, as in the paper; orders 1 and 2 are what TaylorSeer (arXiv 2503.06923) does with finite differences, here for
refresh times of any spacing. What the next order would add mostly has the sign of what these add, so the polynomial is
taken a little beyond tau: `reach` times as far from the newest refresh (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..sampling.polynomial import lagrange_weights
from .pieces import Piece, joined, same
from .storage import Storage


def slot_of(taus: Sequence[float], tau: float, spacing: float, most: int) -> int:
    """Which of the refreshes kept at `taus`, `most` at a time, one at `tau` replaces; len(taus): none.

    One no further than `spacing` from `tau`: nodes that near would turn rounding into huge weights. Else, where there
    are as many as are kept, the one furthest from `tau`.
    """
    distances = [abs(kept - tau) for kept in taus]
    if distances and min(distances) <= spacing:
        return distances.index(min(distances))
    return len(taus) if len(taus) < most else distances.index(max(distances))


def _checkpointed(function: Callable[..., Tensor], *args: Tensor) -> Tensor:
    """In training a history's updates are kept anyhow; what is made of them on every P-step need not be."""
    return checkpoint(function, *args, use_reentrant=False) if torch.is_grad_enabled() else function(*args)


def _as_stream(out: Tensor, dtype: torch.dtype) -> Tensor:
    """float32 sums in the stream's dtype; float16 saturates instead of overflowing, as the hosts' blocks do."""
    return out.clamp(-65504, 65504).to(dtype) if dtype == torch.float16 else out.to(dtype)


def forecast_terms(taus: Sequence[float], updates: Sequence[Tensor], tau: float) -> list[Tensor]:
    """What each refresh adds to the forecast at `tau`, the newest first: the newest update itself, then the terms of
    higher order.
    """
    terms, before = [], [0.0] * len(taus)
    for count in range(1, len(taus) + 1):
        weights = lagrange_weights(taus[:count], tau) + [0.0] * (len(taus) - count)
        terms.append(sum((now - then) * update for now, then, update in zip(weights[:count], before, updates)))
        before = weights
    return terms


class Correction(Protocol):
    """Improves the forecast of one span."""

    def __call__(self, terms: Sequence[Tensor], taus: Sequence[float], tau: float) -> Tensor:
        """What to add to the forecast at `tau`, (R, N, D) float32. terms: of the forecast (`forecast_terms`), made of
        refreshes at `taus`.
        """
        ...


class SpanHistory:
    """Updates of a span whose tokens are always refreshed together: one time for all of them."""

    def __init__(self, order: int, storage: Storage | None = None, reach: float = 1.0) -> None:
        self.order, self.storage, self.reach = order, storage or Storage(), reach
        self.taus: list[float] = []
        self.newest = 0.0  # tau of the last refresh; the least of all but where a run has gone back up
        self.updates: list[Tensor] = []  # each (R, N, D), float32 unless the storage has another form
        self.device = torch.device("cpu")  # on which they are made and used

    def refresh(self, update: Tensor, tau: float, spacing: float = 0.0) -> None:
        """Keep `update` (owned by the history from here on), in place of one that `slot_of` names."""
        slot = slot_of(self.taus, tau, spacing, self.order + 1)
        self.device, self.newest = update.device, tau
        replaced = self.updates[slot] if slot < len(self.updates) else None
        self.taus[slot : slot + 1] = [tau]
        self.updates[slot : slot + 1] = [self.storage.keep_update(update, replaced)]

    @classmethod
    def assembled(cls, pieces: Sequence[Piece[SpanHistory]]) -> SpanHistory:
        """Of the rows of one conditioning in each of other histories."""
        first = pieces[0].source
        same([(piece.source.taus, piece.source.newest) for piece in pieces])
        history = cls(first.order, first.storage, first.reach)
        history.taus, history.newest, history.device = list(first.taus), first.newest, first.device
        history.updates = [
            joined([piece.rows(piece.source.updates[slot]) for piece in pieces]) for slot in range(len(first.taus))
        ]
        return history

    def add_forecast(self, x: Tensor, tau: float, correction: Correction | None = None) -> Tensor:
        """x + the update forecast at tau, with `correction` where there is one; a fresh tensor of x's dtype."""
        out = self.onto(x, tau)
        if correction is not None:
            (taus, updates), reached = (
                self.newest_first(),
                self._reached(tau),
            )  # by the time of a backward pass there are other refreshes
            out = out + _checkpointed(
                lambda *updates: correction(forecast_terms(taus, updates, reached), taus, tau), *updates
            )
        return _as_stream(out, x.dtype)

    def onto(self, x: Tensor, tau: float, tokens: Tensor | None = None) -> Tensor:
        """x + the update forecast at tau, float32 and fresh; with `tokens` (indices into R * N), x is (n, D) of those
        alone.
        """
        out = x.float()
        for weight, update in zip(
            lagrange_weights(self.taus, self._reached(tau)), self.storage.in_turn(self.updates, x.device)
        ):
            update = update if tokens is None else update[tokens // update.shape[1], tokens % update.shape[1]]
            out = torch.add(out, update, alpha=weight) if out is x else out.add_(update, alpha=weight)
        return out

    def _reached(self, tau: float) -> float:
        return self.newest + self.reach * (tau - self.newest)

    def newest_first(self, count: int | None = None) -> tuple[list[float], list[Tensor]]:
        """The refreshes' taus, which fall along a run, and their updates, float32; of `count` of them, or all."""
        slots = sorted(range(len(self.taus)), key=lambda slot: self.taus[slot])[:count]
        updates = self.storage.in_turn([self.updates[slot] for slot in slots], self.device)
        return [self.taus[slot] for slot in slots], [update.float() for update in updates]

    def keep_again(self) -> None:
        """In the storage's present form."""
        self.updates = [self.storage.keep_update(update) for update in self.updates]

    @property
    def memory_bytes(self) -> int:
        return sum(update.nbytes for update in self.updates)


class TokenHistory:
    """Updates of a block some of whose tokens are computed at a time.

    The forecast goes through the refreshes of all tokens. A token computed since the last of them deviated from it, and
    its forecasts carry that deviation until all are refreshed again: order 0 reuses the newest update, as the paper
    does. Its own refreshes, at uneven distances, are no nodes: a parabola through them swings (docs/experiments.md).
    text_first: in a joint stream, whether text tokens come before the image's.
    """

    def __init__(self, order: int, text_first: bool = True, storage: Storage | None = None, reach: float = 1.0) -> None:
        self.whole = SpanHistory(order, storage, reach)
        self.text_first = text_first
        self.deviation: Tensor | None = None  # (R, N, D), kept as updates are; None: no token has been computed since

    def refresh(self, update: Tensor, tau: float, spacing: float = 0.0) -> None:
        """Keep `update` (R, N, D) of all tokens, as `SpanHistory.refresh` does."""
        self.whole.refresh(update, tau, spacing)
        self.deviation = None

    @classmethod
    def assembled(cls, pieces: Sequence[Piece[TokenHistory]]) -> TokenHistory:
        """Of the rows of one conditioning in each of other histories."""
        first = pieces[0].source
        history = cls(first.whole.order, first.text_first, first.whole.storage, first.whole.reach)
        history.whole = SpanHistory.assembled([piece.with_source(piece.source.whole) for piece in pieces])
        deviations = [piece.source.deviation for piece in pieces]
        if any(deviation is not None for deviation in deviations):
            history.deviation = joined(
                [
                    piece.rows(torch.zeros_like(piece.source.whole.updates[0]) if deviation is None else deviation)
                    for piece, deviation in zip(pieces, deviations)
                ]
            )
        return history

    def refresh_some(self, update: Tensor, tau: float, flat: Tensor) -> None:
        """Keep how far `update` (n, D) of the tokens `flat`, indices into R * N, is from its forecast."""
        shape, width, device = self.whole.updates[0].shape, update.shape[-1], update.device
        deviation = (
            torch.zeros(shape, device=device)
            if self.deviation is None
            else self.whole.storage.fetch(self.deviation, device)
        )
        forecast = self.whole.onto(torch.zeros(len(flat), width, device=device), tau, flat)
        deviation.view(-1, width)[flat] = (update.reshape(len(flat), width).float() - forecast).to(deviation.dtype)
        self.deviation = self.whole.storage.keep_update(deviation, self.deviation)

    def add_forecast(self, x: Tensor, tau: float) -> Tensor:
        """x (R, N, D) + each token's update forecast at tau, a fresh tensor of x's dtype."""
        out = self.whole.onto(x, tau)
        return _as_stream(
            out if self.deviation is None else out.add_(self.whole.storage.fetch(self.deviation, x.device)), x.dtype
        )

    def change_rate(self) -> Tensor:
        """(R, N): how fast each token's update moved between the two newest refreshes of all, norm per unit of tau."""
        if len(self.whole.taus) < 2:
            return torch.ones(self.whole.updates[0].shape[:2], device=self.whole.device)
        newest, previous, spacing = self.newest_two()
        return (newest - previous).norm(dim=-1) / spacing

    def of_image(self, x: Tensor, n_image: int) -> Tensor:
        """What x (R, N, ...) has of the image tokens."""
        return x[:, -n_image:] if self.text_first else x[:, :n_image]

    def newest_two(self) -> tuple[Tensor, Tensor, float]:
        """The newest refresh of all tokens and the one before it (R, N, D), and how far apart they are in tau."""
        taus, updates = self.whole.newest_first(2)
        return updates[0], updates[1], taus[1] - taus[0]

    def keep_again(self) -> None:
        self.whole.keep_again()
        if self.deviation is not None:
            self.deviation = self.whole.storage.keep_update(self.deviation)

    @property
    def memory_bytes(self) -> int:
        return self.whole.memory_bytes + (0 if self.deviation is None else self.deviation.nbytes)
