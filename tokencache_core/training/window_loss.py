"""Follow a cached run and, after every window of P-steps, see how far it has come from the plain model's run.

The run is the student's own: its states, its histories, its I-steps. So whatever is learned from its deviation is
learned on what inference will meet, forecast updates, keys and values included (on-policy distillation; the same reason
as in DAgger, arXiv 1011.0686). And it is the deviation of the whole run so far that counts. The error of single steps,
or of single windows, is a poor guide: a correction that halves it by leaning one way adds up over the run
(docs/experiments.md). The paper's loss, which is that error, can be chosen all the same. What it cannot say is what the
rest of the run will make of a deviation: that takes the gradient of the whole run (training/run_loss.py).
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
    """What the P-steps since the last I-step have predicted, as far as it has moved x.

    A change d of the predicted clean x moves the next x by (1 - sigma' / sigma) d (one step of DDIM), and what x has
    been moved by, the next steps of the window carry along.
    """

    def __init__(self, sigmas: Tensor) -> None:
        self.sigmas = sigmas.tolist()
        self.moved: Tensor | None = None

    def add(self, sigma: float, clean: Tensor) -> None:
        """The clean x (B, ...) predicted at `sigma`, with its graph."""
        following = sigma_after(sigma, self.sigmas)
        moved = (1 - following / sigma) * clean
        self.moved = moved if self.moved is None else self.moved + moved

    def settle(self, deviation: Tensor, sigma: float) -> Tensor | None:
        """The loss, a scalar, of being off by `deviation` (B, ...) at `sigma`, and begin anew; None after no P-step.

        In units of the noisy x's own scale, sqrt(1 + sigma^2), in which the model takes it; the root mean square of
        each
        sample, averaged: with squares, the few samples that stray far would teach alone.
        """
        moved, self.moved = self.moved, None
        if moved is None:
            return None
        off = (deviation + moved - moved.detach()) / (1 + sigma**2) ** 0.5
        return (off.flatten(1).square().mean(dim=1) + 1e-12).sqrt().mean()


def step_error(clean: Tensor, wanted: Tensor, sigma: float) -> Tensor:
    """The paper's loss (arXiv 2409.18523, section 3) of one P-step, a scalar: the mean square of its output's error.

    clean, wanted: (B, ...), predicted with the cache and by the plain model at the same x. It is measured in the noise
    that the model predicts, to which one linear layer leads from the last block's tokens, in which the paper has it.
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

    learn: is given each window's loss, with its graph. student: opened around the model's passes on P-steps.
    step_by_step: learn from each P-step's own error (`step_error`) instead; the plain model then runs on every P-step
        as well.
    """
    window, losses, states, end = Window(run.sigmas), [], iter(plain.states), None
    learns_windows = learn is not None and not step_by_step

    def settle(deviation: Tensor, sigma: float) -> None:
        with torch.set_grad_enabled(learns_windows):
            loss = window.settle(deviation, sigma)
            if loss is not None:
                losses.append(float(loss.detach()))
                if learns_windows:
                    learn(loss)

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
        settle(end - plain.end.to(end.device), 0.0)
    session.close()
    return losses
