"""The trained cache: all that one training produces. Users know it as "a predictor" and keep it in one file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from ..files.fingerprint import Fingerprint
from ..sampling.noise_schedule import TRAIN_STEPS
from ..schedules.schedule import PercentileSchedule, UniformSchedule
from ..settings import CacheSettings
from .learned_forecast import LearnedForecast
from .lora import LoraRepair
from .token_scores import KINDS, predictor_from_tensors
from .trained_parts import TrainedParts

LATENT = re.compile(r"\(([1-9]\d{0,5}(?:, [1-9]\d{0,5}){2,4})\)")  # a latent's shape in the notes, (B, C, ...)


@dataclass(frozen=True, eq=False)
class PredictorWeights:
    """The weights of a Cache Predictor, whose module can only be built together with the model.

    kind: one of `predictor.token_scores.KINDS`.
    tensors: its state dict.
    every_step: whether it predicts on every P-step instead of once per window.
    """

    kind: str
    tensors: Mapping[str, Tensor]
    every_step: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the predictor's kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not self.tensors:
            raise ValueError("the predictor has no weights")


@dataclass(frozen=True)
class ImportanceCurve:
    """How important an I-step is at each time; I-steps are placed at equal percentiles of its cumulative sum.

    taus: times in [0, 1].
    importance: at each of these times, 0 or more, in any unit.
    samples: how many samples it is the mean of.
    """

    taus: tuple[float, ...]
    importance: tuple[float, ...]
    samples: int

    def __post_init__(self) -> None:
        if len(self.taus) != len(self.importance) or len(self.taus) < 2:
            raise ValueError(
                "the calibration needs at least two times with one importance each, "
                f"not {len(self.taus)} times and {len(self.importance)} importances"
            )
        if not all(0.0 <= tau <= 1.0 for tau in self.taus):
            raise ValueError("the calibration's times must lie between 0 and 1")
        if not all(math.isfinite(value) and value >= 0 for value in self.importance) or not any(self.importance):
            raise ValueError("the calibration's importance must be finite and non-negative, and not zero everywhere")
        if self.samples < 1:
            raise ValueError(f"the calibration's samples must be at least 1, not {self.samples}")


@dataclass(frozen=True)
class TrainingPoint:
    """One line of the training log.

    seconds: since the training began.
    loss: how far this iteration's runs have strayed.
    held_out: how far from the plain model's end the held-out run ends, which is never trained on; None where it was not
        measured.
    """

    iteration: int
    seconds: float
    loss: float
    held_out: float | None = None

    def __post_init__(self) -> None:
        if self.iteration < 0 or not 0 <= self.seconds < math.inf:
            raise ValueError(
                f"the training log says iteration {self.iteration} after {self.seconds} seconds; both count from 0"
            )
        for value in (self.loss, self.held_out):
            if value is not None and not math.isfinite(value):
                raise ValueError(
                    f"the training has diverged: at iteration {self.iteration} an error is {value}; "
                    "train again at a lower learning rate"
                )


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedCache:
    """A predictor, a repair, learned forecasts and a calibration (each optional), and what they were trained for.

    settings, interval: used in training, and therefore best for sampling.
    fingerprint: of the model that it was trained on.
    shares: the share of its tokens that each cacheable block computes on a P-step; empty: `settings.shares` decides.
    forecasts: by the first and last block of the span, as in `TrainedParts`.
    log: of the training.
    notes: whatever else is worth keeping (seed, steps, prompts, versions), as text.
    """

    settings: CacheSettings
    interval: int
    fingerprint: Fingerprint
    shares: tuple[float, ...] = ()
    predictor: PredictorWeights | None = None
    repair: LoraRepair | None = None
    forecasts: Mapping[tuple[int, int], LearnedForecast] = field(default_factory=dict)
    calibration: ImportanceCurve | None = None
    log: tuple[TrainingPoint, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(
                f"interval is the number of steps from one I-step to the next: at least 1, not {self.interval}"
            )
        for index, share in enumerate(self.shares):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"the share of block {index} must lie between 0 and 1, not {share}")
        if not all(isinstance(text, str) for item in self.notes.items() for text in item):
            raise ValueError("notes must be texts by name")

    def learned(self, blocks: Sequence[nn.Module]) -> TrainedParts:
        """The parts that a run uses, for the model with these blocks; ValueError if they do not fit it."""
        learned = TrainedParts(self.repair, self.forecasts, shares=self.shares)
        if self.predictor is not None:
            predictor = predictor_from_tensors(self.predictor.kind, self.predictor.tensors, blocks[0])
            learned = replace(learned, predictor=predictor, every_step=self.predictor.every_step)
        learned.check(blocks)
        return learned

    def percentiles(self, count: int) -> PercentileSchedule:
        """A schedule of `count` I-steps where the calibration says that they matter; ValueError without one."""
        if self.calibration is None:
            raise ValueError(
                "the predictor is not calibrated: run `python -m tokencache_core calibrate` on it, or choose another "
                "policy"
            )
        return PercentileSchedule(self.calibration.taus, self.calibration.importance, count)

    @property
    def trained_on(self) -> tuple[int, ...]:
        """The size of the latents that it was trained on, without batch and channels; empty if unknown."""
        shape = LATENT.fullmatch(self.notes.get("latent", ""))
        return tuple(int(length) for length in shape[1].split(", ")[2:]) if shape else ()

    @property
    def p_step(self) -> float:
        """A P-step's time as a share of a full step's, from the held-out run's measured speed-up; 0 if unknown."""
        try:
            steps, speedup = int(self.notes["steps"]), float(self.notes["held_out_speedup"])
        except (KeyError, ValueError):
            return 0.0
        if not 1 < steps <= TRAIN_STEPS or not speedup > 0:
            return 0.0
        i_steps = len(UniformSchedule(self.interval).i_steps([1.0] * steps))
        return min(1.0, max(0.0, (steps / speedup - i_steps) / (steps - i_steps))) if i_steps < steps else 0.0

    def apply_to(self, settings: CacheSettings) -> CacheSettings:
        """The user's settings, with those replaced that the trained parts depend on.

        A repair fixes K and reach. Learned forecasts, and shares of tokens per block, also fix r, order, shares and
        context.
        """
        ours = self.settings
        if self.forecasts or self.shares:
            return replace(
                settings,
                last_blocks=ours.last_blocks,
                cache_ratio=ours.cache_ratio,
                order=ours.order,
                fitted=ours.fitted,
                reach=ours.reach,
                shares=ours.shares,
                context=ours.context,
            )
        return settings if self.repair is None else replace(settings, last_blocks=ours.last_blocks, reach=ours.reach)


def kept(learned: TrainedParts) -> dict[str, Any]:
    """What a training produced, as arguments of TrainedCache."""
    predictor = learned.predictor
    weights = (
        None if predictor is None else PredictorWeights(predictor.kind, predictor.state_dict(), learned.every_step)
    )
    return {"predictor": weights, "repair": learned.repair, "forecasts": learned.forecasts, "shares": learned.shares}
