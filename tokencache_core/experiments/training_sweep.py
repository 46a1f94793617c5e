"""Sweeps one choice in training over several values: a predictor is trained anew for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from torch import nn

from ..predictor.trained_parts import TrainedParts
from ..runs.run import Run
from ..settings import CacheSettings
from ..training.plan import TrainingPlan
from ..training.trainer import Training, TrainingDiverged
from .settings_sweep import variants

ITERATIONS = "iterations"


@dataclass(frozen=True)
class Trial:
    """A plan, and how long it is trained: for `iterations`, or, if that is None, for `minutes`."""

    plan: TrainingPlan
    iterations: int | None
    minutes: float

    def __post_init__(self) -> None:
        if self.iterations is not None and self.iterations < 1:
            raise ValueError(f"a training needs at least 1 iteration, not {self.iterations}")

    def enough(self, training: Training) -> bool:
        if self.iterations is None:
            return training.is_over(self.minutes)
        return training.iteration >= self.iterations


def trials(setting: str, values: Iterable[str], trial: Trial) -> dict[str, Trial]:
    """The trial with one choice at each of the values, by value; ValueError for an unknown choice or value.

    setting: ITERATIONS, or the name of a field of the plan or of its cache settings, with - for _.
    """
    if setting == ITERATIONS:
        return variants(setting, values, replace(trial, iterations=1))
    plan = trial.plan
    if setting.replace("-", "_") in {field.name for field in fields(plan)}:
        plans = variants(setting, values, plan)
    else:
        plans = {
            value: replace(plan, settings=settings)
            for value, settings in variants(setting, values, plan.settings).items()
        }
    return {value: replace(trial, plan=plan) for value, plan in plans.items()}


def trained(
    tried: Mapping[str, Trial],
    network: nn.Module,
    blocks: Sequence[nn.Module],
    runs: Callable[[int], Run],
    tell: Callable[[str], None],
) -> Iterator[tuple[str, CacheSettings, TrainedParts]]:
    """Train each; yields its value, settings and trained parts.

    tried: trials by value.
    network, blocks: to train for.
    runs: from a seed, a run to train on.
    tell: takes one line about each training.
    """
    for value, trial in tried.items():
        training = Training(trial.plan, network, blocks, runs)
        try:
            while not trial.enough(training):
                training.step()
            outcome = training.finish()
            learned = training.learned()
        except TrainingDiverged as error:
            tell(f"{value}: {error}")
            continue
        finally:
            training.close()
        line = (
            f"{value}: {training.iteration} iterations in {training.seconds:.0f} s, held-out drift {outcome.drift:.4g} "
            f"({outcome.drift / outcome.without:.1%} of the untrained cache's)"
        )
        tell("; ".join(filter(None, (line, training.remark()))))
        yield value, trial.plan.settings, learned
