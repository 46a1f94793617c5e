"""Forecasts of a network's whole output, for networks whose blocks are not known.

A call of the network predicts the clean x, and so the direction d = (x - clean) / sigma in which Euler's method would
move x, whatever the network is and however it is parametrised (noise, velocity, clean x). What the network adds to its
input, d less the input as the network is given it, moves nearly along a polynomial, as blocks' updates do. I-steps keep
it, P-steps extrapolate it and add their own input, which is exact (EasyCache, arXiv 2507.02860, holds such a
difference; the direction alone is much further off: docs/outputs.md).

Under a sampler that adds noise at every step, x jumps, and no polynomial goes through what is seen on the way. The
network removes most of that noise again. So there a session may hold the last clean x instead, which measured closer
than any extrapolation (docs/outputs.md).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..blocks.spec import BlockSpec
from ..settings import CacheSettings
from ..words.message import say
from .log import Counts
from .memory_budget import RowsShape
from .session import Session
from .spans import ReusedSpan

STREAMS = ("output",)  # of a session for such a network: one block, the network itself
_OUTPUT = BlockSpec(tokens="x")
OTHER_OUTPUT = say(
    "note_other_output", "the model's output was computed on every step, because it is not a tensor like its input"
)


def fall_back(session: Session, counts: Counts, why: str) -> None:
    """Forecast the output instead of the blocks' updates, for the rest of the run and in a call that is now repeated.

    counts: of the evaluation under way, before the call.
    why: a note for the report.
    """
    session.log.note(why)
    session.evaluation_under_way.restore(counts)
    session.evaluation_under_way.computes_all = True
    seen = [counts, *(each.counts() for each in reversed(session.log.evaluations))]
    session.output_weight = next((each.available // each.rows for each in seen if each.rows), 1)
    settings = output_settings(session.settings, session.holds_clean)
    session.store = session.store.emptied(settings, STREAMS)


def output_settings(settings: CacheSettings, holds_clean: bool = False) -> CacheSettings:
    """The settings of a run that forecasts the output: no token is computed on P-steps, unless all are.

    holds_clean: as in `Session`.
    """
    if not settings.cache_ratio:
        return settings
    return replace(
        settings,
        cache_ratio=1.0,
        last_blocks=0,
        order=0 if holds_clean else settings.order,
        fitted=settings.fitted and not holds_clean,
    )


def forecast_output(
    session: Session,
    x: Tensor,
    sigma: Tensor,
    network_input: Tensor,
    compute: Callable[[], Any],
    *,
    key: Hashable,
    conditionings: Sequence[Hashable] = (None,),
    partial_latent: bool = False,
) -> Any:
    """The clean x (R, ...) that one call of the network predicts: computed, or forecast on a P-step.

    x: (R, ...), the noisy input of the call.
    sigma: (R,), its noise level.
    network_input: (R, ...), x scaled to unit variance, as networks are given it.
    compute: calls the network.
    key, conditionings, partial_latent: as in `cached_blocks`.
    """
    evaluation = session.evaluation_under_way
    rows = session.rows(key, tuple(conditionings), x if partial_latent else None)
    if not rows.spans:
        session.store.lay_out(rows, RowsShape(len(x), x[0].numel(), 0, 1, 4, (_OUTPUT,), nothing_between_blocks=True))
    span = rows.spans[0]
    reused = span if isinstance(span, ReusedSpan) else None  # at cache ratio 0 nothing is
    counted = len(x) * session.output_weight
    evaluation.rows += len(x)
    evaluation.available += counted
    level = sigma.reshape(-1, *[1] * (x.ndim - 1)).float()
    forecasts = reused is not None and not evaluation.computes_all
    if reused is not None and forecasts and reused.histories and evaluation.sigma:
        known = torch.zeros_like(x) if session.holds_clean else network_input
        flat = known.float().flatten(1)[..., None]
        forecast = reused.histories[0].add_forecast_float(flat, evaluation.tau).view(x.shape)
        return (forecast if session.holds_clean else x.float() - level * forecast).to(x.dtype)
    if forecasts and evaluation.sigma:
        evaluation.misses += 1
    evaluation.computed[0] += counted
    clean = compute()
    if not evaluation.sigma:  # a clean latent has no direction
        return clean
    if not isinstance(clean, Tensor) or clean.shape != x.shape:
        session.log.note(OTHER_OUTPUT)
    elif reused is not None:
        kept = clean.float() if session.holds_clean else (x.float() - clean.float()) / level - network_input.float()
        reused.refresh([kept.flatten(1)[..., None].clone()], evaluation.tau, evaluation.spacing)
    return clean
