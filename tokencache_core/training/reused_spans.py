"""Which spans of blocks reuse all of their tokens in a sampling run: its first step tells."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from ..engine.session import Session
from ..runs.run import Run
from ..sampling.samplers import Denoise
from ..schedules.schedule import Schedule
from ..settings import CacheSettings


class _Seen(Exception):
    """The first step is done; the others are not needed."""


def reused_spans(
    run: Run, settings: CacheSettings, schedule: Schedule
) -> dict[tuple[int, int], tuple[int, torch.device]]:
    """By the first and last block of each: the width D of its (image) tokens, and where they are."""
    session = run.open_session(settings, schedule)
    first_step(run, session)
    found = {
        (span.layout.first, span.layout.last): (
            span.histories[0].updates[0].shape[-1],
            span.histories[0].updates[0].device,
        )
        for rows in session.store.rows_by_key.values()
        for span in rows.reused
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

    with torch.no_grad(), suppress(_Seen):
        run.sample(around)
