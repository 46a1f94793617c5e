"""Follow a cached run and, at every P-step, measure what the plain model would have said at the same point.

The run is the student's own: its states, its histories, its I-steps. So whatever is learned from the mismatch is
learned on what inference will meet, forecasts and stale keys and values included (on-policy distillation; the same
reason as in DAgger, arXiv 1011.0686).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from .learned import Learned
from .plan import Planner
from .sampling import Denoise
from .schedule import Schedule
from .session import Session
from .settings import CacheSettings


class Run(Protocol):
    """One sampling run of some model, ready to start: `dit_run.DiTRun`, or a host's."""

    sigmas: Tensor   # (steps + 1,), the last one 0
    images: int      # samples in its batch

    def open_session(
        self, settings: CacheSettings, schedule: Schedule, *, planner: Planner | None = None, learned: Learned = Learned(),
    ) -> Session: ...

    def cached(self, session: Session) -> AbstractContextManager[None]: ...

    def sample(self, around: Callable[[Denoise], Denoise]) -> Tensor: ...


class Drift:
    """What the P-steps since the last I-step have put between the cached run's x and the plain model's.

    An error d in the predicted clean x moves the next x by (1 - sigma' / sigma) d (one step of DDIM); errors of one
    sign in a row add up, and that is what an average over single steps does not see. Measured in units of the noisy
    x's own scale, sqrt(1 + sigma'^2), in which the model takes it.
    """

    def __init__(self, sigmas: Tensor) -> None:
        self.sigmas = sigmas.tolist()
        self.x: Tensor | None = None
        self.scale = 1.0

    def add(self, sigma: float, error: Tensor) -> None:
        """The error (B, ...) of the clean x predicted at `sigma`."""
        following = next((other for other in self.sigmas if other < sigma * (1 - 1e-4)), 0.0)
        moved = (1 - following / sigma) * error
        self.x = moved if self.x is None else self.x + moved
        self.scale = (1 + following**2) ** 0.5

    def settle(self) -> Tensor | None:
        """The drift, a scalar, and begin anew; None where there was no P-step.

        The root mean square of each sample, averaged: with squares, the few samples that drift far would teach alone.
        """
        drift, self.x = self.x, None
        return None if drift is None else ((drift / self.scale).flatten(1).square().mean(dim=1) + 1e-12).sqrt().mean()


def follow(
    run: Run, session: Session, learn: Callable[[Tensor], None] | None = None,
    student: Callable[[], AbstractContextManager] = nullcontext,
) -> list[float]:
    """Sample `run` under `session`; returns the drift of each window, the P-steps between two I-steps.

    learn: is given each window's drift, with its graph. student: opened around the cached pass of each P-step, and not
    around the plain one.
    """
    drift, losses = Drift(run.sigmas), []

    def settle() -> None:
        with torch.set_grad_enabled(learn is not None):
            loss = drift.settle()
            if loss is not None:
                losses.append(float(loss.detach()))
                if learn is not None:
                    learn(loss)

    def around(denoise: Denoise) -> Denoise:
        def followed(x: Tensor, sigma: Tensor) -> Tensor:
            with session.evaluation(float(sigma)) as evaluation:
                if evaluation.computes_all:
                    settle()
                    with run.cached(session):
                        return denoise(x, sigma)
                with torch.set_grad_enabled(learn is not None), student(), run.cached(session):
                    cached = denoise(x, sigma)
                plain = denoise(x, sigma)
            with torch.set_grad_enabled(learn is not None):
                drift.add(float(sigma), cached - plain)
            return cached.detach()
        return followed

    with torch.no_grad():
        run.sample(around)
        settle()
    session.close()
    return losses
