"""Which runs of blocks reuse all their tokens in a sampling run: its first step tells."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine.session import Session
from ..sampling.samplers import Denoise
from ..schedules.schedule import Schedule
from ..settings import CacheSettings
from .window_loss import Run


class _Seen(Exception):
    """The first step is done; the others are not needed."""


def reused_runs(run: Run, settings: CacheSettings, schedule: Schedule) -> dict[tuple[int, int], tuple[int, torch.device]]:
    """By the first and last block of each: the width D of its (image) tokens, and where they are."""
    session = run.open_session(settings, schedule)
    first_step(run, session)
    found = {
        (first, rows.units[first].last): (histories[0].updates[0].shape[-1], histories[0].updates[0].device)
        for rows in session.row_caches.values() for first, histories in rows.runs.items()
    }
    session.close()
    return found


def first_step(run: Run, session: Session) -> None:
    """The first evaluation of a run, under `session`; nothing comes after it."""

    def around(denoise: Denoise) -> Denoise:
        def stopped(x: Tensor, sigma: Tensor) -> Tensor:
            with session.evaluation(float(sigma)), run.cached(session):
                denoise(x, sigma)
            raise _Seen
        return stopped

    with torch.no_grad():
        try:
            run.sample(around)
        except _Seen:
            pass
