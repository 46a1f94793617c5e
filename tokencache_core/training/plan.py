"""The plan of a training: all choices that determine it, and that must be the same when it is resumed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from ..predictor.token_scores import KINDS
from ..schedules.schedule import UniformSchedule
from ..settings import CacheSettings

LOSSES = ("run", "drift", "step")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained, and how.

    settings: of the cached runs.
    interval: of the I-steps on the held-out run; each training run draws one between 0.6 and 1.6 times as long, so that
        the result also serves neighbouring speeds.
    rank: of the adapters on the last blocks, if there are any.
    forecast_hidden: width of the learned forecasts' hidden layer; 0 for none.
    predictor: the kind of Cache Predictor (`predictor.token_scores.KINDS`), "" for none; it replaces learned forecasts.
    sparsity: lambda, the weight of the mean score in the loss.
    soft: mix by the scores themselves, as in the paper's training, instead of the hard choice that inference makes.
    every_step: predict the scores on every P-step, as in the paper, instead of once per window.
    loss: "run", the distance between the ends of the cached and the plain run, with the gradient of the whole run
        (training/run_loss.py); "drift", the distance between the two after each window, with the gradient of that
        window alone, which takes less memory; "step", the error of each P-step alone
        (`training.window_loss.step_error`), as in the paper.
    accumulate: losses whose gradients are averaged for one update; an iteration's last update may have fewer.
    precision: "fp32", or "bf16" to run the model in mixed precision (torch.autocast), for GPUs.
    checkpointing: run the last blocks again in the backward pass instead of keeping their activations.
    average: the share of an iteration's weights in the running average once it is warm.
    held_out_every: iterations between measurements on the held-out run; the first iteration is measured, too.
    """

    settings: CacheSettings
    interval: int = 4
    rank: int = 16
    forecast_hidden: int = 96
    predictor: str = ""
    sparsity: float = 0.0
    soft: bool = False
    every_step: bool = False
    loss: str = "run"
    learning_rate: float = 1e-3
    accumulate: int = 1
    precision: str = "fp32"
    checkpointing: bool = False
    average: float = 0.05
    held_out_every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.forecast_hidden < 0:
            raise ValueError(
                f"forecast_hidden must be a width, or 0 for no learned forecast, not {self.forecast_hidden}"
            )
        if self.predictor and self.predictor not in KINDS:
            raise ValueError(f"the predictor's kind must be one of {', '.join(KINDS)}, not {self.predictor!r}")
        if self.predictor and not 0 < self.settings.cache_ratio < 1:
            raise ValueError(
                "a Cache Predictor chooses the tokens that P-steps compute, and with cache_ratio "
                f"{self.settings.cache_ratio:g} there is no choice: set it between 0 and 1, for example to 0.9"
            )
        if self.predictor and self.loss == "step" and not self.every_step:
            raise ValueError(
                'the loss "step" can only train scores of its own step: also choose every_step, or choose another loss'
            )
        if self.sparsity < 0:
            raise ValueError(f"sparsity is the weight of the mean score and cannot be negative: {self.sparsity}")
        if self.settings.last_blocks < 1 and not self.forecast_hidden and not self.predictor:
            raise ValueError(
                "nothing to train: the LoRA repair is on the last blocks, and last_blocks is 0; set it to 1 or more, "
                "or train a learned forecast"
            )
        if self.interval < 2:
            raise ValueError(f"interval {self.interval} leaves no P-steps to learn from: set it to 2 or more")
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"the learning rate must lie between 0 and 1, not {self.learning_rate}")
        if self.accumulate < 1:
            raise ValueError(f"accumulate is a number of losses: at least 1, not {self.accumulate}")
        if self.loss not in LOSSES:
            raise ValueError(f"the loss must be one of {', '.join(LOSSES)}, not {self.loss!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"the precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if self.held_out_every < 1:
            raise ValueError(f"held_out_every is a number of iterations: at least 1, not {self.held_out_every}")

    @property
    def schedule(self) -> UniformSchedule:
        return UniformSchedule(self.interval)

    def predicted_speedup(self, steps: int, n_blocks: int) -> float:
        """The speed-up of a run of `steps`, from the tokens that blocks compute; no other cost of a step is counted."""
        p_steps = steps - len(self.schedule.i_steps([1.0 - step / steps for step in range(steps)]))
        reused = self.settings.cache_ratio * (n_blocks - self.settings.last_blocks) / n_blocks
        return steps / (steps - p_steps * reused)

    def drawn_schedule(self, seed: int) -> UniformSchedule:
        """The schedule of a training run, with an interval drawn from `seed`."""
        shortest, longest = max(2, math.ceil(0.6 * self.interval)), math.floor(1.6 * self.interval)
        return UniformSchedule(random.Random(seed).randint(shortest, longest))
