"""The loss of a whole cached run: every P-step is judged by where the run ends.

The error of a single step or window says little: errors of neighbouring windows largely cancel, and making each smaller
makes their sum larger (docs/findings/training.md). Here the gradient goes back through all steps of the run, including
I-steps, so that each part learns from its effect on the end of the run (end-to-end distillation of a solver, as in
arXiv 2502.17423).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ..engine.session import Session
from ..runs.run import PlainRun, Run, sigma_after
from ..sampling.samplers import Denoise


def follow_to_the_end(
    run: Run,
    session: Session,
    plain: PlainRun,
    learn: Callable[[Tensor], None] | None = None,
    student: Callable[[], AbstractContextManager] = nullcontext,
    whole: Callable[[], AbstractContextManager] = nullcontext,
) -> list[float]:
    """Sample `run` under `session`; returns [the root mean square distance of its end from `plain`'s, averaged over
    samples].

    Samplers take no gradient. Between evaluations x has the sampler's values and the gradient of Euler's method, which
    is exact for `euler` and DDIM.

    run, session: the run and its session, which is closed at the end.
    plain: the plain model's run from the same noise.
    learn: takes the loss, a scalar with its graph: the mean over samples of the logarithm of the distance, so that no
        sample outweighs the others.
    student: opened around the model's passes on P-steps.
    whole: opened around those on I-steps.
    """
    sigmas: list[float] = run.sigmas.tolist()
    moved: Tensor | None = None  # x at the next evaluation, with its graph
    end: Tensor | None = None  # the last predicted clean x

    def around(denoise: Denoise) -> Denoise:
        @torch.set_grad_enabled(learn is not None)
        def followed(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal moved, end
            if moved is not None:
                x = x.detach() + (moved - moved.detach())
            with session.evaluation(float(sigma), x.detach()) as evaluation:
                with whole() if evaluation.computes_all else student(), run.cached(session):
                    clean = denoise(x, sigma)
            end = session.corrected(x, clean)
            moved = x + (sigma_after(float(sigma), sigmas) / float(sigma) - 1) * (x - end)
            return end.detach()

        return followed

    with torch.no_grad():
        run.sample(around)
    session.close()
    assert end is not None  # a run has at least one step
    error = (end - plain.end.to(end.device)).flatten(1).square().mean(dim=1)
    if learn is not None:
        learn(0.5 * (error + 1e-12).log().mean())
    return [float(error.detach().sqrt().mean())]
