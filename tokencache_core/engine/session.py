"""The session of one sampling run: its timeline, its cache and its log."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..blocks.token_grid import LatentShape
from ..schedules.error_bound import ErrorBound
from ..schedules.resolved import resolved
from ..schedules.run_simulator import USUAL_FADING, Fading
from ..schedules.schedule import Schedule
from ..settings import CacheSettings
from ..words.message import say
from .allocation import compute_share
from .corrector import Corrector
from .learned_parts import NOTHING_LEARNED, LearnedParts
from .log import Counts, Evaluation, RunLog
from .memory_budget import MemoryBudget
from .record import Report
from .store import CacheStore, Rows
from .timeline import Timeline
from .token_choice import Planner, ScorePlanner

MOVED = 0.06  # share of x's norm by which x must differ from before to count as moved
EVALUATIONS_OF_A_STEP = 3  # the most that a solver makes in a step of its own
ELSEWHERE = say(
    "note_elsewhere",
    "the model was called on parts of the latent that moved from step to step: those were computed in full",
)
MOVING_WINDOWS = say(
    "note_moving_windows",
    "the context windows move from step to step, and nothing is kept of a new one: those were computed in full. With "
    "the schedule standard_static they stay in place",
)
OUT_OF_MEMORY = say(
    "note_out_of_memory",
    "memory ran out in a call of the model: the cache was freed, the call was repeated without it, and the cache "
    "started anew. Limit the cache with memory_budget_gb in Apply TokenCache",
)
GOES_BACK = say(
    "note_goes_back", "where sigma rises, as in unsampling and with samplers that go back, everything was computed"
)
SEVERAL_AT_ONE_SIGMA = say(
    "note_several_at_one_sigma",
    "the sampler called the model several times at one sigma, moving x in between: from the second call on, "
    "everything was computed",
)


class Session:
    """The state of one sampling run, from `open_session` until `close`, which frees the cache and returns the report.

    input_scale: from a sigma to what x there is multiplied by before the network is given it.
    corrector: corrects the errors of P-steps, if the sampler is Euler's method.
    error_bound: places I-steps during the run.
    latent: the shape of the sampled latents.
    fresh_noise: whether the sampler adds noise of its own on every step.
    holds_clean: whether a forecast of the output holds the last clean x, as is best if the sampler adds noise.
    """

    def __init__(
        self,
        settings: CacheSettings,
        timeline: Timeline,
        store: CacheStore,
        learned: LearnedParts,
        *,
        device: torch.device,
        input_scale: Callable[[float], float],
        corrector: Corrector | None,
        error_bound: ErrorBound | None,
        fresh_noise: bool,
        latent: LatentShape,
        holds_clean: bool = False,
    ) -> None:
        self.settings, self.timeline, self.store, self.learned = settings, timeline, store, learned
        self.device, self.corrector, self.error_bound, self.latent = device, corrector, error_bound, latent
        self.input_scale = input_scale
        self.planner, self.fresh_noise, self.holds_clean = store.planner, fresh_noise, holds_clean
        self.n_blocks = len(store.streams)
        self.log = RunLog()
        self.current: Evaluation | None = None
        self.last_x: Tensor | None = None  # (B, ...) of the last evaluation, or the one under way
        self.runs_whole = False  # from here on everything is computed, because something has failed
        self.output_weight = 1  # block-tokens for which one row of a forecast output counts

    @property
    def keeps_keys(self) -> bool:
        """Whether the blocks' attention calls must reach `NetworkCall.attention`."""
        return self.store.keeps_keys

    @property
    def evaluation_under_way(self) -> Evaluation:
        if self.current is None:
            raise RuntimeError("the network was called under a session outside of an evaluation")
        return self.current

    @contextmanager
    def evaluation(self, sigma: float, x: Tensor | None = None) -> Generator[Evaluation, None, None]:
        """While active, the model is evaluated once at `sigma`.

        x: (B, ...), the input of the evaluation; None: it is not known, and nothing is read from it.
        """
        timeline, last = self.timeline, self.log.last
        step, tau, previous = timeline.step_of(sigma), timeline.tau(sigma), None if last is None else last.sigma
        if self.error_bound is not None and (last is None or step != last.index):  # all evaluations of a step are alike
            if not self.error_bound.allows(tau, timeline.after(step) - sigma):
                timeline.i_steps |= {step}
        computes_all = timeline.computes_all(sigma, previous) and not self._is_computed_already(step, sigma)
        computes_all = computes_all or self._moved_in_place(sigma, x)
        if previous is not None and timeline.rises(sigma, previous):
            self.log.note(GOES_BACK)
        evaluation = Evaluation(step, sigma, tau, computes_all, timeline.spacing(step), self.n_blocks, self.device)
        if x is not None:
            if self.corrector is not None:
                self.corrector.arrived(x)
            self.last_x = x
        outer, self.current = self.current, evaluation
        self.store.begin()
        if computes_all:
            self.planner.computed_all(tau)
        try:
            yield evaluation
        finally:
            self.current = outer
            if evaluation.reached:  # else another node's cache has answered, and nothing was refreshed
                self.log.add(evaluation)
                self.store.end(computes_all)

    def _is_computed_already(self, step: int, sigma: float) -> bool:
        """Whether this step has been computed in full already, by a solver that evaluates several times a step.

        Its further evaluations are close to the first; the time that they would take is better spent on more I-steps
        (docs/outputs.md). A solver that makes steps of its own evaluates more often, and is computed in full again.
        """
        evaluations = self.log.evaluations
        if self.fresh_noise or self.error_bound is not None or not evaluations:
            return False
        if evaluations[-1].index != step or evaluations[-1].sigma < sigma:
            return False
        lately = evaluations[-(EVALUATIONS_OF_A_STEP - 1) :]
        return any(each.index == step and each.computes_all for each in lately)

    def _moved_in_place(self, sigma: float, x: Tensor | None) -> bool:
        """Whether x has been moved since the last evaluation, though not to another sigma.

        A forecast knows an evaluation by its time alone, and would give the same answer again.
        """
        last = self.log.last
        if (
            self.fresh_noise
            or last is None
            or x is None
            or self.last_x is None
            or not self.timeline.same(sigma, last.sigma)
        ):
            return False
        moved = self.last_x.shape != x.shape or bool((x - self.last_x).square().sum() > MOVED**2 * x.square().sum())
        if moved:
            self.log.note(SEVERAL_AT_ONE_SIGMA)
        return moved

    def run_whole(self, counts: Counts) -> None:
        """Compute everything from here on, including in the call of the network that is now repeated.

        counts: of the evaluation under way, before the call.
        """
        self.runs_whole = True
        self.evaluation_under_way.restore(counts)
        self.evaluation_under_way.computes_all = True
        self.store = self.store.emptied(self.settings, self.store.streams)

    def corrected(self, x: Tensor, clean: Tensor) -> Tensor:
        """The corrected prediction to give to the sampler. Called after each evaluation.

        x, clean: (B, ...), the noisy input of that evaluation and its prediction.
        """
        evaluation = self.log.evaluations[-1]
        sigma, is_i_step = evaluation.sigma, evaluation.computes_all
        # another node's guider may predict something else than a tensor, and a clean x has no direction
        if not isinstance(clean, Tensor) or clean.shape != x.shape or not sigma:  # pyright: ignore[reportUnnecessaryIsInstance]
            if self.corrector is not None:
                self.corrector.forget()
            return clean
        if self.corrector is None and not is_i_step:
            return clean
        direction = _direction(x, clean, sigma)
        if is_i_step:
            self._learn_from_i_step(evaluation, x, direction)
        if self.corrector is None:
            return clean
        move = self.timeline.move(sigma, self.log.previous_sigma)
        if move is None or not evaluation.available:
            self.corrector.forget()
            return clean
        if evaluation.reused:
            self.corrector.add_p_step(evaluation.tau, move, direction, evaluation.reused)
            self.corrector.leads(x, move, direction)
            return clean
        wanted = self.corrector.corrected_i_step(evaluation.tau, move, direction)
        self.corrector.leads(x, move, wanted)
        return clean if wanted is direction else (x.float() - sigma * wanted).to(clean.dtype)

    def _learn_from_i_step(self, evaluation: Evaluation, x: Tensor, direction: Tensor) -> None:
        """What the rest of the run learns from an I-step at x that predicted `direction`, both (B, ...)."""
        if self.error_bound is not None:
            self.error_bound.add_i_step(evaluation.tau, x, direction)
        if self.store.fitted is not None:
            added = (direction - self.input_scale(evaluation.sigma) * x.float()).detach()
            self.store.fitted.add_i_step(evaluation.tau, added, evaluation.spacing)

    def rows(self, key: Hashable, conditionings: tuple[Hashable, ...], part: Tensor | None = None) -> Rows:
        """What is kept for the rows of these conditionings, of calls named by `key`.

        Repeated calls of the same name in one evaluation have separate rows.

        part: (R, C, ...), the input of a call that sees only a part of the latent; if it is another part than before,
            what was kept is discarded.
        """
        self.evaluation_under_way.reached = True
        calls = self.evaluation_under_way.calls
        calls[key, conditionings] += 1
        rows = self.store.rows((key, calls[key, conditionings]), conditionings)
        if part is not None and rows.is_elsewhere(part, self.last_x):
            self.log.note(ELSEWHERE)
            rows.forget()
        return rows

    @contextmanager
    def surviving_want_of_memory(self) -> Generator[None, None, None]:
        """While active, a call of the network that runs out of memory frees the cache and is not counted.

        The error is passed on. The caller repeats the call without the cache, and counts it (`ran_whole`).
        """
        counts = self.evaluation_under_way.counts()
        try:
            yield
        except torch.OutOfMemoryError:
            self.evaluation_under_way.restore(counts)
            self.store.free()
            self.log.note(OUT_OF_MEMORY)
            raise

    def ran_whole(self, rows: int) -> None:
        """Count a call of the network, with `rows` rows, that ran without the cache."""
        if tokens := self.store.tokens_of(rows):
            self.evaluation_under_way.count_whole(rows, tokens)

    def close(self) -> Report:
        """Free the cache and return the report."""
        if short := self.store.close():
            self.log.note(short)
        passed = self.timeline.passed_over([evaluation.sigma for evaluation in self.log.evaluations])
        if passed and self.log.evaluations:
            self.log.note(
                say(
                    "note_passed_over",
                    "on {passed} of {steps} steps the model was not called: another node that skips evaluations, "
                    "such as LazyCache, is active too. One cache at a time stays closer, and the figures here are of "
                    "the evaluations that were made",
                    passed=passed,
                    steps=len(self.timeline),
                )
            )
        self.corrector = self.error_bound = None
        self.learned.release()
        memory = self.store.memory
        return Report(
            steps=tuple(evaluation.record() for evaluation in self.log.evaluations),
            memory_bytes=self.store.memory_bytes,
            expected_bytes=memory.most,
            storage=memory.form.text(),
            settings=self.settings.text(),
            learned=self.learned.text(),
            notes=self.log.notes,
            latent=self.latent,
        )


def open_session(
    settings: CacheSettings,
    schedule: Schedule,
    *,
    sigmas: Sequence[float],
    tau: Callable[[float], float],
    input_scale: Callable[[float], float],
    streams: tuple[str, ...],
    end: float = 0.0,
    euler: bool = False,
    fresh_noise: bool = False,
    holds_clean: bool = False,
    fading: Fading = USUAL_FADING,
    device: torch.device | str = "cpu",
    planner: Planner | None = None,
    learned: LearnedParts = NOTHING_LEARNED,
    latent: LatentShape = LatentShape(),
    budget: MemoryBudget = MemoryBudget(),
) -> Session:
    """Open a session for one sampling run. ValueError if the settings do not fit a model with this many blocks.

    sigmas: the noise levels at which the run's steps begin, falling.
    tau: from a sigma to the model's time, scaled to [0, 1].
    input_scale: from a sigma to what x there is multiplied by before the network is given it.
    streams: one name per block (`BlockSpec.stream`).
    end: the sigma at which the run ends.
    euler: the sampler is Euler's method, so that the errors of P-steps can be corrected.
    fresh_noise, holds_clean: as in `Session`.
    fading: of the model that is run.
    planner: chooses tokens instead of the learned parts' planner or the settings' score.
    learned: learned parts; the caller, who has the blocks, checks that they fit (`LearnedParts.check`).
    latent: the shape of the sampled latents.
    budget: the cache's memory budget.
    """
    p_step = compute_share(settings, len(streams), learned.shares)
    learned.check_last(len(streams), settings.last_blocks)
    places = resolved(schedule, [tau(sigma) for sigma in sigmas], p_step, fading)
    timeline = Timeline(sigmas, places.i_steps, tau, end)
    device = torch.device(device)
    learned = learned.on(device)
    store = CacheStore(
        settings,
        streams,
        planner or learned.planner() or ScorePlanner(settings),
        shares=learned.shares,
        budget=budget,
        i_steps=len(places.i_steps) if places.error_bound is None else len(timeline),
    )
    session = Session(
        settings,
        timeline,
        store,
        learned,
        device=device,
        input_scale=input_scale,
        latent=latent,
        corrector=Corrector(settings.corrector, settings.order) if euler and settings.corrector else None,
        fresh_noise=fresh_noise,
        holds_clean=holds_clean,
        error_bound=None if places.error_bound is None else ErrorBound(places.error_bound, settings.order, 1 - p_step),
    )
    if places.note:
        session.log.note(places.note)
    return session


def _direction(x: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """The direction (B, ...) in which Euler's method moves x, per unit of sigma."""
    return (x.float() - clean.float()) / sigma
