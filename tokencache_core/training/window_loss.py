"""The loss of a window of P-steps: how far a cached run has strayed from the plain model's run by its end.

The run is the student's own, with its states, its histories and its I-steps. So whatever is learned from its deviation
is learned in situations that inference will meet, including forecast updates, keys and values (on-policy distillation,
for the same reason as in DAgger, arXiv 1011.0686). The loss is the deviation of the run so far. The error of single
steps or windows is a poor guide: a correction that halves it with a bias adds up over the run
(docs/findings/training.md). The paper's loss, which is the error of single steps, is available all the same
(`step_error`). Neither knows what the rest of the run will make of a deviation: that takes the gradient of the whole
run (training/run_loss.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ..engine.session import Session
from ..runs.run import PlainRun, Run, sigma_after
from ..sampling.samplers import Denoise


class Window:
    """The movement of x by the predictions of the P-steps since the last I-step, with its graph.

    A change d of the predicted clean x moves the next x by (1 - sigma' / sigma) d (one step of DDIM), and the window's
    next steps carry this movement along.

    sigmas: (steps + 1,) of the run.
    """

    def __init__(self, sigmas: Tensor) -> None:
        self.sigmas = sigmas.tolist()
        self.moved: Tensor | None = None

    def add(self, sigma: float, clean: Tensor) -> None:
        """Add the movement by the clean x (B, ...) predicted at `sigma`, with its graph."""
        following = sigma_after(sigma, self.sigmas)
        moved = (1 - following / sigma) * clean
        self.moved = moved if self.moved is None else self.moved + moved

    def settle(self, deviation: Tensor, sigma: float) -> Tensor | None:
        """The loss of the window, a scalar; then start a new window. None if there was no P-step.

        It is the root mean square of each sample's deviation, averaged over samples (averaged squares would let the few
        samples that stray far dominate), in units of the noisy x's scale sqrt(1 + sigma^2), by which the model divides.

        deviation: (B, ...), of the run's x at `sigma` from the plain run's.
        """
        moved, self.moved = self.moved, None
        if moved is None:
            return None
        off = (deviation + moved - moved.detach()) / (1 + sigma**2) ** 0.5
        return (off.flatten(1).square().mean(dim=1) + 1e-12).sqrt().mean()


def step_error(clean: Tensor, wanted: Tensor, sigma: float) -> Tensor:
    """The paper's loss (arXiv 2409.18523, section 3) of one P-step, a scalar: the mean squared error of its output.

    The paper measures it on the last block's tokens; here it is measured on the predicted noise, which is one linear
    layer further.

    clean, wanted: (B, ...), predicted with the cache and by the plain model at the same x.
    sigma: of the step.
    """
    return ((clean - wanted) / sigma).square().mean()


def follow(
    run: Run,
    session: Session,
    plain: PlainRun,
    learn: Callable[[Tensor], None] | None = None,
    student: Callable[[], AbstractContextManager] = nullcontext,
    step_by_step: bool = False,
) -> list[float]:
    """Sample `run` under `session`; returns how far it is from `plain` after each window, the last one at the end.

    run, session: the run and its session, which is closed at the end.
    plain: the plain model's run from the same noise.
    learn: takes each window's loss, a scalar with its graph.
    student: opened around the model's passes on P-steps.
    step_by_step: learn from each P-step's own error (`step_error`) instead; the plain model then runs on every P-step
        as well.
    """
    window, states = Window(run.sigmas), iter(plain.states)
    losses: list[float] = []
    end: Tensor | None = None
    learn_window = None if step_by_step else learn

    def settle(deviation: Tensor, sigma: float) -> None:
        with torch.set_grad_enabled(learn_window is not None):
            loss = window.settle(deviation, sigma)
            if loss is not None:
                losses.append(float(loss.detach()))
                if learn_window is not None:
                    learn_window(loss)

    def around(denoise: Denoise) -> Denoise:
        def followed(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal end
            there = next(states)
            with session.evaluation(float(sigma), x.detach()) as evaluation:
                if evaluation.computes_all:
                    settle(x - there.to(x.device), float(sigma))
                    with run.cached(session):
                        clean = denoise(x, sigma)
                else:
                    with torch.set_grad_enabled(learn is not None):
                        with student(), run.cached(session):
                            clean = denoise(x, sigma)
                        if step_by_step and learn is not None:
                            with torch.no_grad():
                                wanted = denoise(x, sigma)
                            learn(step_error(clean, wanted, float(sigma)))
                            clean = clean.detach()
                        window.add(float(sigma), clean)
            end = session.corrected(x, clean.detach())
            return end

        return followed

    with torch.no_grad():
        run.sample(around)
        assert end is not None  # a run has at least one step
        settle(end - plain.end.to(end.device), 0.0)
    session.close()
    return losses
