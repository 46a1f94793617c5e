"""Finds the spans of blocks that reuse all their tokens in a sampling run, by running its first step."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from ..engine.session import Session
from ..runs.run import Run
from ..sampling.samplers import Denoise
from ..schedules.schedule import Schedule
from ..settings import CacheSettings


class _FirstStepDone(Exception):
    """Ends a run after its first step."""


def reused_spans(
    run: Run, settings: CacheSettings, schedule: Schedule
) -> dict[tuple[int, int], tuple[int, torch.device]]:
    """The width D and the device of the (image) tokens of each such span, by its first and last block."""
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
    """Run only the first evaluation of `run`, under `session`."""

    def around(denoise: Denoise) -> Denoise:
        def stopped(x: Tensor, sigma: Tensor) -> Tensor:
            with session.evaluation(float(sigma)), run.cached(session):
                denoise(x, sigma)
            raise _FirstStepDone

        return stopped

    with torch.no_grad(), suppress(_FirstStepDone):
        run.sample(around)
