"""Cached updates and their forecast.

An *update* is what a block (or a span of blocks) adds to a token, gates included. Its last `order + 1` refreshes are
kept with their taus, and a reused update is the polynomial through them at the current tau. Order 0 is plain reuse, as
in the paper; orders 1 and 2 do what TaylorSeer (arXiv 2503.06923) does with finite differences, but for refresh times
of any spacing. Of the next order's term, a share may be taken (engine/fitted_term.py). What is left mostly has the
same sign as these, so the polynomial is evaluated slightly beyond tau: at `reach` times the distance from the newest
refresh (docs/findings/forecast.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from ..sampling.polynomial import lagrange_weights, weighted_sum
from .fitted_term import FittedTerm, term_weights
from .pieces import Piece, joined, same
from .storage import Storage

FLOAT16_MAX = torch.finfo(torch.float16).max


def slot_of(taus: Sequence[float], tau: float, spacing: float, max_count: int) -> int:
    """The slot of a new refresh at `tau` among those kept at `taus`: the one it replaces, or len(taus) for a new one.

    It replaces a refresh no further than `spacing` from `tau`, because interpolation nodes that close together would
    amplify rounding errors. Otherwise, if `max_count` refreshes are kept already, it replaces the one furthest from
    `tau`.
    """
    distances = [abs(kept - tau) for kept in taus]
    if distances and min(distances) <= spacing:
        return distances.index(min(distances))
    return len(taus) if len(taus) < max_count else distances.index(max(distances))


def _checkpointed(function: Callable[..., Tensor], *args: Tensor) -> Tensor:
    """function(*args), recomputed in the backward pass of a training instead of keeping its intermediate tensors."""
    if not torch.is_grad_enabled():
        return function(*args)
    result: object = checkpoint(function, *args, use_reentrant=False)  # pyright: ignore[reportUnknownVariableType]
    assert isinstance(result, Tensor)
    return result


def _as_stream(out: Tensor, dtype: torch.dtype) -> Tensor:
    """A float32 sum in the stream's dtype; float16 saturates instead of overflowing, as in the hosts' blocks."""
    return out.clamp(-FLOAT16_MAX, FLOAT16_MAX).to(dtype) if dtype == torch.float16 else out.to(dtype)


def forecast_terms(taus: Sequence[float], updates: Sequence[Tensor], tau: float) -> list[Tensor]:
    """The terms of the forecast at `tau`, one per refresh: the newest update itself, then the terms of higher order.

    taus, updates: of the refreshes, the newest first.
    """
    terms: list[Tensor] = []
    before = [0.0] * len(taus)
    for count in range(1, len(taus) + 1):
        weights = lagrange_weights(taus[:count], tau) + [0.0] * (len(taus) - count)
        terms.append(weighted_sum([now - then for now, then in zip(weights[:count], before)], updates[:count]))
        before = weights
    return terms


class Correction(Protocol):
    """A correction of one span's forecast."""

    def __call__(self, terms: Sequence[Tensor], taus: Sequence[float], tau: float) -> Tensor:
        """The tensor to add to the forecast at `tau`, (R, N, D) float32.

        terms: the forecast's terms (`forecast_terms`), made from refreshes at `taus`.
        """
        ...


class SpanHistory:
    """Updates of a span whose tokens are always refreshed together, so that each refresh has one time.

    order: of the forecast; order + 1 refreshes are kept, and one more for a fitted term.
    reach: how far forecasts extrapolate, as in `CacheSettings`.
    fitted: of the run; None if forecasts take no share of the next order's term.
    """

    def __init__(
        self, order: int, storage: Storage | None = None, reach: float = 1.0, fitted: FittedTerm | None = None
    ) -> None:
        self.order, self.storage, self.reach, self.fitted = order, storage or Storage(), reach, fitted
        self.taus: list[float] = []
        self.newest = 0.0  # tau of the last refresh; usually the smallest, unless the run's noise rose again
        self.updates: list[Tensor] = []  # each (R, N, D), float32 unless the storage has another form
        self.device = torch.device("cpu")  # where they are made and used

    def refresh(self, update: Tensor, tau: float, spacing: float = 0.0) -> None:
        """Keep `update` (owned by the history from now on), in the slot that `slot_of` gives."""
        slot = slot_of(self.taus, tau, spacing, self.order + 1 + (self.fitted is not None))
        self.device, self.newest = update.device, tau
        replaced = self.updates[slot] if slot < len(self.updates) else None
        self.taus[slot : slot + 1] = [tau]
        self.updates[slot : slot + 1] = [self.storage.keep_update(update, replaced)]

    @classmethod
    def assembled(cls, pieces: Sequence[Piece[SpanHistory]]) -> SpanHistory:
        """The history of rows that are those of one conditioning in each of several others."""
        first = pieces[0].source
        same([(piece.source.taus, piece.source.newest) for piece in pieces])
        history = cls(first.order, first.storage, first.reach, first.fitted)
        history.taus, history.newest, history.device = list(first.taus), first.newest, first.device
        history.updates = [
            joined([piece.rows(piece.source.updates[slot]) for piece in pieces]) for slot in range(len(first.taus))
        ]
        return history

    def add_forecast(self, x: Tensor, tau: float, correction: Correction | None = None) -> Tensor:
        """x + the forecast update at `tau`, improved by `correction` if there is one: a new tensor of x's dtype."""
        out = self.add_forecast_float(x, tau)
        if correction is not None:
            # taken now: by the time of a backward pass the refreshes are others
            (taus, updates), evaluated_at = self.newest_first(self.order + 1), self._evaluated_at(tau)

            def corrected(*updates: Tensor) -> Tensor:
                return correction(forecast_terms(taus, updates, evaluated_at), taus, tau)

            out = out + _checkpointed(corrected, *updates)
        return _as_stream(out, x.dtype)

    def add_forecast_float(self, x: Tensor, tau: float, tokens: Tensor | None = None) -> Tensor:
        """x + the forecast update at `tau`: a new float32 tensor.

        tokens: indices into R * N; x is then (n, D), with these tokens only.
        """
        out = x.float()
        weights = self._weights(tau)
        updates = self.storage.fetch_each([self.updates[slot] for slot in weights], x.device)
        for weight, update in zip(weights.values(), updates):
            update = update if tokens is None else update[tokens // update.shape[1], tokens % update.shape[1]]
            out = torch.add(out, update, alpha=weight) if out is x else out.add_(update, alpha=weight)
        return out

    def _weights(self, tau: float) -> dict[int, float]:
        """The weights of the kept updates in a forecast at `tau`, by their slots."""
        slots = sorted(range(len(self.taus)), key=lambda slot: abs(self.taus[slot] - self.newest))
        taus, evaluated_at = [self.taus[slot] for slot in slots], self._evaluated_at(tau)
        weights = lagrange_weights(taus[: self.order + 1], evaluated_at)
        if self.fitted is not None and self.fitted.share and len(slots) > self.order + 1:
            term = term_weights(taus, self.order, evaluated_at)
            weights = [weight + self.fitted.share * more for weight, more in zip([*weights, 0.0], term)]
        return dict(zip(slots, weights))

    def _evaluated_at(self, tau: float) -> float:
        """The time at which the polynomial is evaluated for a forecast at `tau`."""
        return self.newest + self.reach * (tau - self.newest)

    def newest_first(self, count: int | None = None) -> tuple[list[float], list[Tensor]]:
        """The taus and float32 updates of the newest `count` refreshes, or of all, in order of rising tau."""
        slots = sorted(range(len(self.taus)), key=lambda slot: self.taus[slot])[:count]
        updates = self.storage.fetch_each([self.updates[slot] for slot in slots], self.device)
        return [self.taus[slot] for slot in slots], [update.float() for update in updates]

    def to_current_form(self) -> None:
        """Convert the updates to the storage's current form."""
        self.updates = [self.storage.keep_update(update) for update in self.updates]

    @property
    def memory_bytes(self) -> int:
        return sum(update.nbytes for update in self.updates)


class TokenHistory:
    """Updates of a span in which P-steps compute some of the tokens.

    The forecast goes through the refreshes of all tokens. A token computed since the last of these deviated from it,
    and its forecasts carry that deviation until all tokens are refreshed again: with order 0 the newest update is
    reused, as in the paper. A token's own refreshes are unevenly spaced and are not used as nodes: a parabola through
    them oscillates (docs/findings/forecast.md).

    text_first: whether text tokens come before image tokens in a joint stream.
    """

    def __init__(
        self,
        order: int,
        text_first: bool = True,
        storage: Storage | None = None,
        reach: float = 1.0,
        fitted: FittedTerm | None = None,
    ) -> None:
        self.whole = SpanHistory(order, storage, reach, fitted)
        self.text_first = text_first
        self.deviation: Tensor | None = None  # (R, N, D), kept like an update; None: no token has been computed since

    def refresh(self, update: Tensor, tau: float, spacing: float = 0.0) -> None:
        """Keep `update` (R, N, D) of all tokens, as in `SpanHistory.refresh`."""
        self.whole.refresh(update, tau, spacing)
        self.deviation = None

    @classmethod
    def assembled(cls, pieces: Sequence[Piece[TokenHistory]]) -> TokenHistory:
        """As `SpanHistory.assembled`."""
        first = pieces[0].source
        history = cls(first.whole.order, first.text_first)
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
        """Keep the deviation of `update` (n, D) from its forecast, for the tokens `flat` (indices into R * N)."""
        shape, width, device = self.whole.updates[0].shape, update.shape[-1], update.device
        deviation = (
            torch.zeros(shape, device=device)
            if self.deviation is None
            else self.whole.storage.fetch(self.deviation, device)
        )
        forecast = self.whole.add_forecast_float(torch.zeros(len(flat), width, device=device), tau, flat)
        deviation.view(-1, width)[flat] = (update.reshape(len(flat), width).float() - forecast).to(deviation.dtype)
        self.deviation = self.whole.storage.keep_update(deviation, self.deviation)

    def add_forecast(self, x: Tensor, tau: float) -> Tensor:
        """x (R, N, D) + each token's forecast update at `tau`: a new tensor of x's dtype."""
        out = self.whole.add_forecast_float(x, tau)
        return _as_stream(
            out if self.deviation is None else out.add_(self.whole.storage.fetch(self.deviation, x.device)), x.dtype
        )

    def change_rate(self) -> Tensor:
        """(R, N): each token's change of update between the two newest refreshes of all, as norm per unit of tau."""
        if len(self.whole.taus) < 2:
            return torch.ones(self.whole.updates[0].shape[:2], device=self.whole.device)
        newest, previous, spacing = self.newest_two()
        return (newest - previous).square().sum(dim=-1).sqrt() / spacing

    def of_image(self, x: Tensor, n_image: int) -> Tensor:
        """The image tokens of x (R, N, ...)."""
        return x[:, -n_image:] if self.text_first else x[:, :n_image]

    def newest_two(self) -> tuple[Tensor, Tensor, float]:
        """The two newest refreshes of all tokens, (R, N, D) each, and their distance in tau."""
        taus, updates = self.whole.newest_first(2)
        return updates[0], updates[1], taus[1] - taus[0]

    def to_current_form(self) -> None:
        self.whole.to_current_form()
        if self.deviation is not None:
            self.deviation = self.whole.storage.keep_update(self.deviation)

    @property
    def memory_bytes(self) -> int:
        return self.whole.memory_bytes + (0 if self.deviation is None else self.deviation.nbytes)
