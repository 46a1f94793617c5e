"""The trainer of the parts that act on P-steps: Cache Predictor and LoRA on the last K blocks (TokenCache, arXiv
2409.18523, section 3), and learned forecasts.

It needs no data set: each iteration samples a batch of noise once in full and several times with caching, as inference
will, and updates the weights after every cached run (`training.run_loss.follow_to_the_end`) or every window of P-steps
(`training.window_loss.follow`). The result is the weights' running average, so that a training can be stopped at any
time.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..engine.allocation import on_ladder
from ..engine.stopwatch import timed
from ..predictor.learned_forecast import LearnedForecast, forecast_from_tensors
from ..predictor.lora import LoraPair
from ..predictor.token_scores import CachePredictor, new_predictor
from ..predictor.trained_cache import TrainingPoint
from ..predictor.trained_parts import TrainedParts
from ..runs.run import HELD_OUT_SEEDS, PlainRun, Run, sample_plain
from ..words.message import say
from .activation_checkpointing import checkpointed
from .distributed import Processes
from .lora_adapters import Adapters
from .plan import TrainingPlan
from .relaxed_choice import RelaxedPlanner
from .reused_spans import reused_spans
from .run_loss import follow_to_the_end
from .verdict import EqualCompute, at_equal_compute
from .window_loss import follow

CACHED_RUNS = 4  # per iteration
COLLAPSED = 0.01  # scores (in (0, 1)) that differ by less choose no better than chance


@dataclass(frozen=True)
class Best:
    """The averaged weights and the block shares with which the held-out run has strayed least so far.

    held_out: how far it strayed.
    """

    held_out: float
    weights: tuple[Tensor, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of a training on the held-out run.

    drift, without: how far the run strays with and without the trained parts.
    speedup: by the clock.
    likeness: compared with what the same computation gives without them.
    """

    drift: float
    without: float
    speedup: float
    likeness: EqualCompute

    @property
    def notes(self) -> dict[str, str]:
        """The result as notes for a predictor file."""
        return {
            "held_out_drift": f"{self.drift:.4g}",
            "held_out_drift_untrained": f"{self.without:.4g}",
            "held_out_speedup": f"{self.speedup:.2f}",
            "verdict": self.likeness.verdict,
        }


class TrainingDiverged(ArithmeticError):
    """The drift is no longer a number; the averaged weights are those of the last complete iteration."""


class Training:
    """The state of one training: the weights, their average, the optimiser and the measurements.

    plan: what is trained, and how.
    network: the model, which takes no gradient until `close`.
    blocks: its blocks in order; the last K hold the adapters until `close`.
    start: from a seed to a run of one batch, or of this process's part of it. Seeds from HELD_OUT_SEEDS on are for
        measuring only.
    processes: those that train together; all of them hold the same state.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        network: nn.Module,
        blocks: Sequence[nn.Module],
        start: Callable[[int], Run],
        processes: Processes = Processes(),
    ) -> None:
        self.plan, self.blocks, self.start, self.processes = plan, blocks, start, processes
        first = len(blocks) - plan.settings.last_blocks
        if first < 0:
            raise ValueError(f"last_blocks is {plan.settings.last_blocks}, but the model has only {len(blocks)} blocks")
        if plan.predictor and first == 0:
            raise ValueError(
                f"last_blocks is {plan.settings.last_blocks}, all of the model's blocks: none is left whose tokens a "
                "predictor could choose"
            )
        self.took_gradients = [weight for weight in network.parameters() if weight.requires_grad]
        _set_requires_grad(self.took_gradients, False)
        self.predictor = self._predictor(blocks[0], first) if plan.predictor else None
        self.planner: RelaxedPlanner | None = None
        self.shares: tuple[float, ...] = ()
        self.forecasts = self._forecasts() if plan.forecast_hidden and not plan.predictor else {}
        last = dict(list(enumerate(blocks))[first:])
        self.adapters = (
            Adapters(last, plan.rank, float(plan.rank), plan.seed, plan.checkpointing or plan.loss == "run")
            if last
            else None
        )
        modules = [*([self.predictor] if self.predictor else []), *self.forecasts.values()]
        self.parameters = [weight for module in modules for weight in module.parameters()]
        self.parameters += self.adapters.parameters if self.adapters else []
        if not self.parameters:
            raise ValueError("nothing to train: no block reuses all its tokens, and last_blocks is 0")
        self.average = [weight.detach().clone() for weight in self.parameters]
        self.optimizer = torch.optim.Adam(self.parameters, lr=plan.learning_rate, betas=(0.9, 0.95))
        self.held_out_run: tuple[Run, PlainRun] | None = None
        self.plain_seconds = math.inf  # of the fastest plain run: the first ones are slowed by warming up
        self.speedup: float | None = None  # of the held-out run by the clock, when it was last measured
        self.iteration, self.seconds = 0, 0.0
        self.best: Best | None = None
        self.pending = 0  # losses whose gradients wait for an update
        self.log: list[TrainingPoint] = []

    def step(self) -> TrainingPoint:
        """One iteration: sample a batch in full, then several times with the cache under different schedules, learning
        from each.
        """
        started = time.monotonic()
        seed = self.plan.seed + self.iteration
        with self._whole_or_not_at_all(), self._mixed_precision():
            run = self.start(seed)
            plain = self._timed_plain(run)
            losses = [
                loss for turn in range(CACHED_RUNS) for loss in self._followed(run, plain, seed * CACHED_RUNS + turn)
            ]
            if self.pending:
                self._update()
        self.iteration += 1
        self._average()
        if self.planner is not None:
            found, share = self._mean(self.planner.shares()), max(self.plan.average, 1 / self.iteration)
            self.shares = tuple(old + share * (new - old) for old, new in zip(self.shares or found, found))
        held_out = self._measure() if self.iteration == 1 or self.iteration % self.plan.held_out_every == 0 else None
        loss, seconds = self._mean((sum(losses) / len(losses), time.monotonic() - started))
        self.seconds += seconds
        self.log.append(TrainingPoint(self.iteration, self.seconds, loss, held_out))
        return self.log[-1]

    def is_over(self, minutes: float, elapsed: float | None = None) -> bool:
        """Whether stopping now comes closer to `minutes` than one more iteration would.

        elapsed: seconds so far, if more than the iterations' own are to count.
        """
        elapsed = self.seconds if elapsed is None else elapsed
        return elapsed + 0.5 * self.seconds / max(1, self.iteration) >= 60 * minutes

    def _followed(self, run: Run, plain: PlainRun, schedule_seed: int) -> list[float]:
        settings = self.plan.settings
        if self.predictor is not None:
            settings = replace(settings, shares="uniform")  # every block takes part in the competition
            self.planner = RelaxedPlanner(
                self.predictor, 1 - settings.cache_ratio, self.plan.soft, self.plan.every_step
            )
        session = run.open_session(
            settings,
            self.plan.drawn_schedule(schedule_seed),
            planner=self.planner,
            learned=TrainedParts(forecasts=self.forecasts),
        )
        student = self.adapters.on if self.adapters else nullcontext
        if self.plan.loss == "run":
            return follow_to_the_end(run, session, plain, self._learn, student, partial(checkpointed, self.blocks))
        return follow(run, session, plain, self._learn, student, self.plan.loss == "step")

    def _timed_plain(self, run: Run) -> PlainRun:
        plain, seconds = timed(lambda: sample_plain(run))
        self.plain_seconds = min(self.plain_seconds, seconds)
        return plain

    def held_out(self, learned: TrainedParts) -> float:
        """How far from the plain model's end the held-out run ends, with the parts `learned`."""
        with self._mixed_precision():
            if self.held_out_run is None:
                run = self.start(HELD_OUT_SEEDS)
                self.held_out_run = run, self._timed_plain(run)
            run, plain = self.held_out_run
            session = run.open_session(self.plan.settings, self.plan.schedule, learned=learned)
            drifts, seconds = timed(lambda: follow_to_the_end(run, session, plain))
            self.speedup = self.plain_seconds / seconds
            (drift,) = self._mean(drifts)
        return drift

    def finish(self) -> TrainingOutcome:
        """Measure the last weights, too, which may be the best, and then the result of the training.

        To resume exactly, save the state before.
        """
        if self.log and self.log[-1].held_out is None:
            self.log[-1] = replace(self.log[-1], held_out=self._measure())
        without = self.held_out(TrainedParts())
        drift, cached_seconds = timed(lambda: self.held_out(self.learned()))
        assert self.held_out_run is not None  # `held_out` has made it
        run, plain = self.held_out_run
        with self._mixed_precision():
            _, plain_seconds = timed(lambda: sample_plain(run))
            found = at_equal_compute(run, plain.end, self.plan, self.learned())
        trained, at_random = (self._mean([value or 0.0])[0] for value in (found.trained, found.random))
        likeness = replace(
            found,
            trained=trained,
            without=self._mean([found.without])[0],
            random=None if found.random is None else at_random,
        )
        return TrainingOutcome(drift, without, plain_seconds / cached_seconds, likeness)

    def _measure(self) -> float:
        held_out = self.held_out(self._learned(self.average, self.shares))
        if self.best is None or held_out < self.best.held_out:
            self.best = Best(held_out, tuple(average.clone() for average in self.average), self.shares)
        return held_out

    def learned(self) -> TrainedParts:
        """The trained parts for inference: from the averaged weights that were best on the held-out run, or from the
        current ones before the first measurement.
        """
        if self.best is not None:
            return self._learned(self.best.weights, self.best.shares)
        return self._learned(self.average, self.shares)

    def _learned(self, weights: Sequence[Tensor], shares: tuple[float, ...]) -> TrainedParts:
        """The trained parts with `weights` (in the order of `self.parameters`) and block `shares`."""
        copies = iter([weight.clone() for weight in weights])
        predictor = None
        if self.predictor is not None:
            predictor = copy.deepcopy(self.predictor).requires_grad_(False)
            for weight in predictor.parameters():
                weight.copy_(next(copies))
        forecasts = {
            span: forecast_from_tensors({name: next(copies) for name, _ in module.named_parameters()})
            for span, module in self.forecasts.items()
        }
        repair = None
        if self.adapters is not None:
            repair = self.adapters.repair()
            blocks = {
                index: {path: LoraPair(next(copies), next(copies)) for path in pairs}
                for index, pairs in repair.blocks.items()
            }
            repair = replace(repair, blocks=blocks)
        return TrainedParts(
            repair,
            forecasts,
            predictor,
            every_step=predictor is not None and self.plan.every_step,
            shares=() if predictor is None else on_ladder(shares),
        )

    def remark(self) -> str:
        """Advice for the user about this training; "" if there is none."""
        if self.planner is None or self.planner.spread >= COLLAPSED:
            return ""
        return say(
            "training_collapsed",
            "all scores lie within {spread} of each other, so the predictor does not tell tokens apart: train "
            "longer, raise the learning rate ({rate}) or, with soft, sparsity ({sparsity})",
            spread=f"{self.planner.spread:.2g}",
            rate=f"{self.plan.learning_rate:g}",
            sparsity=f"{self.plan.sparsity:g}",
        )

    def close(self) -> None:
        """Put the model's plain layers back, and let its weights take gradients again."""
        if self.adapters is not None:
            self.adapters.remove()
        _set_requires_grad(self.took_gradients, True)

    def _predictor(self, first_block: nn.Module, n_scores: int) -> CachePredictor:
        settings = replace(self.plan.settings, cache_ratio=1.0, last_blocks=0)
        (width, device), *_ = reused_spans(self.start(self.plan.seed), settings, self.plan.schedule).values()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            return (
                new_predictor(self.plan.predictor, first_block, width, n_scores)
                .to(device, torch.float32)
                .requires_grad_(True)
            )

    def _forecasts(self) -> dict[tuple[int, int], LearnedForecast]:
        """An untrained learned forecast for each span of blocks that reuses all its tokens."""
        widths = reused_spans(self.start(self.plan.seed), self.plan.settings, self.plan.schedule)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            return {
                span: LearnedForecast(width, self.plan.settings.order, self.plan.forecast_hidden).to(device)
                for span, (width, device) in widths.items()
            }

    def _mixed_precision(self) -> torch.autocast:
        """The plan's autocast, without its weight cache, which would keep weights from before an update."""
        return torch.autocast(
            self.parameters[0].device.type, torch.bfloat16, enabled=self.plan.precision == "bf16", cache_enabled=False
        )

    @contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        """Restore the weights and the optimiser if the iteration is interrupted or fails, so that resuming is exact."""
        weights = [weight.detach().clone() for weight in self.parameters]
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        try:
            yield
        except BaseException:
            self.optimizer.zero_grad(set_to_none=True)
            self.pending = 0
            self.optimizer.load_state_dict(optimizer)
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, weights)  # pyright: ignore[reportPrivateImportUsage]
            raise

    def _learn(self, loss: Tensor) -> None:
        if not torch.isfinite(self.processes.mean(loss.detach())):
            raise self._diverged()
        if not loss.requires_grad:
            raise ValueError(
                "nothing to learn from: the trained parts were not used in this run, because the model ran in full on "
                "its P-steps; a report of Apply TokenCache says why"
            )
        if self.planner is not None:
            loss = loss + self.plan.sparsity * self.planner.take_mean_score()
        loss.backward()
        self.pending += 1
        if self.pending == self.plan.accumulate:
            self._update()

    def _diverged(self) -> TrainingDiverged:
        return TrainingDiverged(
            f"training diverged in iteration {self.iteration + 1} and was stopped; what was learned before is kept; "
            f"train again at a lower learning rate than {self.plan.learning_rate:g}"
        )

    def _update(self) -> None:
        self._share_gradients()
        if self.pending > 1:
            for weight in self.parameters:
                if weight.grad is not None:
                    weight.grad /= self.pending
        self.pending = 0
        if not torch.isfinite(nn.utils.clip_grad_norm_(self.parameters, 1.0)):
            raise self._diverged()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _share_gradients(self) -> None:
        if self.processes.count == 1:
            return
        own = torch.cat(
            [(torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten() for weight in self.parameters]
        )
        shared = self.processes.mean(own).split([weight.numel() for weight in self.parameters])
        for weight, gradient in zip(self.parameters, shared):
            weight.grad = gradient.view_as(weight)

    def _mean(self, values: Sequence[float]) -> tuple[float, ...]:
        """The mean of `values` over all processes."""
        if self.processes.count == 1:
            return tuple(values)
        return tuple(
            self.processes.mean(torch.tensor(values, dtype=torch.float64, device=self.processes.device)).tolist()
        )

    @torch.no_grad()
    def _average(self) -> None:
        share = max(self.plan.average, 1 / self.iteration)
        torch._foreach_lerp_(self.average, self.parameters, share)  # pyright: ignore[reportPrivateImportUsage]


def _set_requires_grad(weights: Sequence[nn.Parameter], on: bool) -> None:
    for weight in weights:
        weight.requires_grad_(on)
