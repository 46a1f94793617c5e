"""Which runs of blocks reuse all their tokens in a sampling run: its first step tells."""

from __future__ import annotations

import torch
from torch import Tensor

from .distill import Run
from .sampling import Denoise
from .schedule import Schedule
from .settings import CacheSettings


class _Seen(Exception):
    """The first step is done; the others are not needed."""


def reused_runs(run: Run, settings: CacheSettings, schedule: Schedule) -> dict[tuple[int, int], tuple[int, torch.device]]:
    """By the first and last block of each: the width D of its (image) tokens, and where they are."""
    session = run.open_session(settings, schedule)
    found: dict[tuple[int, int], tuple[int, torch.device]] = {}

    def around(denoise: Denoise) -> Denoise:
        def first_step(x: Tensor, sigma: Tensor) -> Tensor:
            with session.evaluation(float(sigma)), run.cached(session):
                denoise(x, sigma)
            for rows in session.row_caches.values():
                for first, histories in rows.runs.items():
                    update = histories[0].updates[0]
                    found[first, rows.units[first].last] = update.shape[-1], update.device
            raise _Seen
        return first_step

    with torch.no_grad():
        try:
            run.sample(around)
        except _Seen:
            session.close()
    return found
