"""The verdict on a training: whether its result is worth loading, by PSNR on the held-out run, compared with what the
same computation gives without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ..likeness.metrics import capped_psnr
from ..predictor.trained_parts import TrainedParts
from ..runs.cached_sampling import sample_cached
from ..runs.run import Run
from ..schedules.automatic import AutomaticSchedule
from ..settings import DEFAULTS
from ..words.message import say
from .plan import TrainingPlan

NOTICEABLE = 0.2  # dB; less is within what another seed changes


@dataclass(frozen=True)
class EqualCompute:
    """PSNR in dB of the held-out run against the plain model's, at the same share of block-tokens computed.

    trained: with what was learned.
    without: with the default settings, whose computation goes into more I-steps.
    random: with as many random tokens computed; None if nothing chooses tokens.
    compute: the share.
    """

    trained: float
    without: float
    random: float | None
    compute: float

    @property
    def helps(self) -> bool:
        return self.trained >= max(self.without, self.random or 0.0) + NOTICEABLE

    @property
    def verdict(self) -> str:
        """The comparison and what follows from it, in words."""
        values = {"trained": f"{self.trained:.1f}", "without": f"{self.without:.1f}"}
        if self.random is None:
            if self.helps:
                return say(
                    "training_worth_it",
                    "worth loading: {trained} dB on the held-out run; as much computing without it gives {without} dB",
                    **values,
                )
            return say(
                "training_not_worth_it",
                "not worth loading: {trained} dB on the held-out run; as much computing without it gives {without} dB",
                **values,
            )
        values["random"] = f"{self.random:.1f}"
        if self.helps:
            return say(
                "predictor_worth_it",
                "worth loading: {trained} dB on the held-out run; as much computing without it gives {without} dB, "
                "and random tokens {random} dB",
                **values,
            )
        return say(
            "predictor_not_worth_it",
            "not worth loading: {trained} dB on the held-out run; as much computing without it gives {without} dB, "
            "and random tokens {random} dB",
            **values,
        )


def at_equal_compute(run: Run, end: Tensor, plan: TrainingPlan, learned: TrainedParts) -> EqualCompute:
    """Measure on a run what was learned.

    run: a run that was not trained on.
    end: (B, ...), the plain model's samples of this run.
    """
    samples, report = sample_cached(run, plan.settings, plan.schedule, learned=learned)
    steps = len(run.sigmas) - 1
    i_steps = AutomaticSchedule(max(1, min(steps, round(report.compute * steps))))
    without, _ = sample_cached(run, DEFAULTS, i_steps)
    random = None
    if plan.predictor:
        drawn = replace(plan.settings, score="random", shares="uniform", seed=plan.seed)
        random = _psnr(sample_cached(run, drawn, plan.schedule)[0], end)
    return EqualCompute(_psnr(samples, end), _psnr(without, end), random, report.compute)


def _psnr(samples: Tensor, end: Tensor) -> float:
    """In dB, mean over the samples (B, ...)."""
    flat = (part.float().flatten(1)[:, None, None] for part in (samples.to(end.device), end))
    return float(capped_psnr(*flat, clamp=False).mean())
