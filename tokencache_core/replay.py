"""Whole runs recorded once and followed many times, where a P-step computes no block.

What such a step adds depends on the recorded updates alone, so the network's blocks need not run again: a recording is
followed in a small part of the time of a run. The states are the plain model's instead of the cached run's own
(`distill.follow`); what is learned is measured on cached runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from .distill import Drift, Run
from .history import RunHistory
from .learned import Learned
from .sampling import Denoise
from .schedule import Schedule, UniformSchedule
from .session import RowCache, Session
from .settings import CacheSettings

Updates = dict[int, list[Tensor]]    # by a run's first block, one a stream: (R, N, D) float16


@dataclass(frozen=True)
class RecordedStep:
    """x: (B, ...) what the model was given. clean: what it predicted. rows: by their key, N and their updates, on the CPU."""

    x: Tensor
    clean: Tensor
    rows: dict[Hashable, tuple[int, Updates]]


@dataclass(frozen=True)
class Recording:
    run: Run
    settings: CacheSettings
    steps: tuple[RecordedStep, ...]

    @property
    def memory_bytes(self) -> int:
        updates = [streams for step in self.steps for _, rows in step.rows.values() for streams in rows.values()]
        return sum(update.nbytes for streams in updates for update in streams)


def record(run: Run, settings: CacheSettings) -> Recording:
    """Sample `run` whole and keep what P-steps under `settings` would forecast."""
    session, steps = run.open_session(settings, UniformSchedule(1)), []

    def around(denoise: Denoise) -> Denoise:
        def recorded(x: Tensor, sigma: Tensor) -> Tensor:
            with session.evaluation(float(sigma)), run.cached(session):
                clean = denoise(x, sigma)
            steps.append(RecordedStep(x.clone(), clean.clone(), {key: _kept(rows) for key, rows in session.row_caches.items()}))
            return clean
        return recorded

    with torch.no_grad():
        run.sample(around)
    session.close()
    return Recording(run, settings, tuple(steps))


def _kept(rows: RowCache) -> tuple[int, Updates]:
    if rows.tokens:
        raise ValueError("a recording serves runs that compute no token on P-steps")
    return rows.n_tokens, {first: [history.newest.to("cpu", torch.float16) for history in streams] for first, streams in rows.runs.items()}


def replay(recording: Recording, schedule: Schedule, learned: Learned, learn: Callable[[Tensor], None]) -> list[float]:
    """Follow a recording under `schedule`; returns the drift of each window, which `learn` is given with its graph."""
    run, steps = recording.run, iter(recording.steps)
    session = run.open_session(recording.settings, schedule, learned=learned)
    drift, losses = Drift(run.sigmas), []

    def settle() -> None:
        with torch.enable_grad():
            loss = drift.settle()
            if loss is not None:
                losses.append(float(loss.detach()))
                learn(loss)

    def around(denoise: Denoise) -> Denoise:
        def replayed(x: Tensor, sigma: Tensor) -> Tensor:
            step = next(steps)
            with session.evaluation(float(sigma)) as evaluation:
                if evaluation.computes_all:
                    settle()
                    _refresh(session, step)
                else:
                    with torch.enable_grad(), run.cached(session):
                        drift.add(float(sigma), denoise(step.x, sigma) - step.clean)
            return step.clean
        return replayed

    with torch.no_grad():
        run.sample(around)
        settle()
    session.close()
    return losses


def _refresh(session: Session, step: RecordedStep) -> None:
    """What an I-step would have left in the session's caches."""
    evaluation = session.current
    for key, (n_tokens, updates) in step.rows.items():
        rows = session.row_caches.setdefault(key, RowCache())
        session.used.add(key)
        if not rows.units:
            rows.lay_out(session.settings, session.streams, n_tokens, session.learned.shares)
        for first, streams in updates.items():
            histories = rows.runs.setdefault(first, [RunHistory(session.settings.order) for _ in streams])
            for history, update in zip(histories, streams):
                history.refresh(update.to(session.device, torch.float32), evaluation.tau, evaluation.spacing)
