"""What lives during one sampling run: its schedule, its caches, its clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ..blocks.token_grid import LatentShape
from ..blocks.token_index import TokenIndex
from ..predictor.predicted_choice import PredictedPlanner
from ..predictor.trained_parts import Learned
from ..schedules.automatic import AutomaticSchedule
from ..schedules.error_bound import ErrorBound
from ..schedules.schedule import ErrorBoundSchedule, Schedule, SpeedupSchedule
from ..settings import CacheSettings
from .allocation import Unit, compute_share, group_blocks, tokens_per_block
from .computed_tokens import ComputedTokens, DrawnTokens
from .corrector import Corrector
from .forecast import TokenHistory
from .memory_budget import CacheMemory, MemoryBudget, RowsShape
from .record import Report, StepRecord
from .row_cache import RowCache
from .stopwatch import Stopwatch
from .storage import Form, Storage
from .token_choice import Planner, ScorePlanner

_MANY = 1_000_000  # tokens, of which no share that can be chosen rounds to none
_MASK_BYTES = 2**23  # that a run may keep of which tokens it computed, to be looked at afterwards
_RATE_BLOCKS = 4  # blocks whose change rates a plan looks at; looking at all of them would cost a tenth of a P-step


class Evaluation:
    """One evaluation of the model at one sigma; it may take several calls of the network (conditionings apart)."""

    def __init__(
        self, index: int, sigma: float, tau: float, computes_all: bool, spacing: float, n_blocks: int, device: torch.device,
    ) -> None:
        self.index, self.sigma, self.tau, self.computes_all = index, sigma, tau, computes_all
        self.spacing = spacing                   # refreshes no further apart in tau count as one
        self.watch = Stopwatch(device)
        self.bookkeeping = 0.0
        self.rows = 0
        self.computed = [0] * n_blocks           # tokens computed, summed over rows
        self.block_seconds = [0.0] * n_blocks    # inside of each block, on a CPU; a GPU runs behind the clock
        self.available = 0                       # tokens there were, summed over rows and blocks
        self.rankings: dict[tuple[int, int, int | None], Tensor] = {}
        self.drawn: DrawnTokens | None = None    # by the call of the network that has the most image tokens
        self.token_counts = torch.zeros(0, 0)    # of that call, once it has ended: (images, N)
        self.tokens = ComputedTokens()
        self.misses = 0
        self.calls: Counter[Hashable] = Counter()

    def record(self) -> StepRecord:
        return StepRecord(
            index=self.index, sigma=self.sigma, kind="I" if self.computes_all else "P", seconds=self.watch.seconds(),
            bookkeeping=self.bookkeeping, computed=sum(self.computed), available=self.available,
            block_tokens=tuple(tokens / max(1, self.rows) for tokens in self.computed), token_counts=self.token_counts.cpu(),
            misses=self.misses, tokens=replace(self.tokens, masks=self.tokens.masks.cpu()),
        )


class Session:
    """Opened when sampling starts and closed when it ends; closing gives the report and frees the caches.

    sigmas: the run's own steps, without the one at which it ends (`end`). tau: from a sigma to the model's time scaled to
    [0, 1]. streams: one name a block (`BlockSpec.stream`). learned: what a training gave; whoever has the blocks checks that
    it fits them (`Learned.check`). euler: the run's sampler is Euler's method, and its P-steps can be corrected. latent: that the
    run samples. budget: of the cache's memory.
    """

    def __init__(
        self, settings: CacheSettings, schedule: Schedule, *, sigmas: Sequence[float], tau: Callable[[float], float],
        streams: tuple[str, ...], device: torch.device | str = "cpu", planner: Planner | None = None,
        learned: Learned = Learned(), end: float = 0.0, euler: bool = False, latent: LatentShape = LatentShape(),
        budget: MemoryBudget = MemoryBudget(),
    ) -> None:
        self.settings, self.sigmas, self.tau, self.streams = settings, list(sigmas), tau, streams
        self.end, self.latent = end, latent
        self.corrector = Corrector(settings.corrector, settings.order) if euler and settings.corrector else None
        self.taus = [tau(sigma) for sigma in self.sigmas]
        p_step = compute_share(settings, len(streams), learned.shares)   # refuses a K beyond the model's depth before any work is done
        self.notes: dict[str, None] = {}  # in the order in which they were first made
        if isinstance(schedule, AutomaticSchedule):
            schedule = schedule.placed(self.taus)
        if isinstance(schedule, SpeedupSchedule):
            schedule = schedule.costing(p_step)
            if why := schedule.out_of_reach(len(self.taus)):
                self.note(why)
        self.i_steps = schedule.i_steps(self.taus)
        bounded = isinstance(schedule, ErrorBoundSchedule)
        self.error_bound = ErrorBound(schedule.bound, settings.order, 1 - p_step) if bounded else None
        self.device = torch.device(device)
        self.learned = learned.on(self.device)
        self.planner = planner or self._planner()
        counts = tokens_per_block(settings, len(streams), _MANY, learned.shares)
        # whether any block computes some of its tokens, and these attend to keys and values of all
        self.taps_attention = settings.key_refreshes > 0 and any(0 < count < _MANY for count in counts)
        self.row_caches: dict[Hashable, RowCache] = {}
        self.used: set[Hashable] = set()
        self.evaluations: list[Evaluation] = []
        self.current: Evaluation | None = None
        self.storage = Storage()
        most = len(self.sigmas) if bounded else len(self.i_steps)
        self.memory = CacheMemory(budget, min(settings.order + 1, most), min(settings.key_refreshes, most))
        self.memory_bytes = 0
        self.mask_bytes = _MASK_BYTES
        if learned.repair is not None:
            learned.repair.check_last(len(streams), settings.last_blocks)

    @contextmanager
    def evaluation(self, sigma: float) -> Iterator[Evaluation]:
        """Around one evaluation of the model at `sigma`."""
        previous = self.evaluations[-1] if self.evaluations else None
        rising = previous is not None and sigma > previous.sigma * (1 + 1e-6)
        step, tau = self._step_of(sigma), self.tau(sigma)
        if self.error_bound is not None and (previous is None or step != previous.index):    # a step has one kind
            if not self.error_bound.allows(tau, self._next_sigma(step) - sigma):
                self.i_steps |= {step}
        computes_all = previous is None or rising or step in self.i_steps
        evaluation = Evaluation(step, sigma, tau, computes_all, self._spacing(step), len(self.streams), self.device)
        outer, self.current, self.used = self.current, evaluation, set()
        if computes_all:
            self.planner.computed_all(tau)
        try:
            yield evaluation
        finally:
            evaluation.watch.stop()
            self._after(evaluation)
            self.current = outer

    def corrected(self, x: Tensor, clean: Tensor) -> Tensor:
        """`clean`, predicted from x (B, ...) in the evaluation that has just ended, as the sampler is to be given it."""
        evaluation = self.evaluations[-1]
        if self.error_bound is not None and evaluation.computes_all:
            self.error_bound.computed(evaluation.tau, x, _direction(x, clean, evaluation.sigma))
        if self.corrector is None:
            return clean
        move, sigma = self._last_move(), evaluation.sigma
        if move is None or not evaluation.available:
            self.corrector.forget()
            return clean
        direction = _direction(x, clean, sigma)
        reused = 1 - sum(evaluation.computed) / evaluation.available
        if reused:
            self.corrector.forecast(evaluation.tau, move, direction, reused)
            return clean
        wanted = self.corrector.computed(evaluation.tau, move, direction)
        return clean if wanted is direction else (x.float() - sigma * wanted).to(clean.dtype)

    def rows(self, key: Hashable) -> RowCache:
        """The cache of the rows named by `key`; a second call with the same key in one evaluation has a cache of its own."""
        key = (key, self.current.calls[key])
        self.current.calls[key[0]] += 1
        self.used.add(key)
        return self.row_caches.setdefault(key, RowCache())

    def lay_out(self, rows: RowCache, shape: RowsShape) -> None:
        """Group the blocks for rows of this shape, in a form in which they fit the memory budget."""
        rows.n_tokens, rows.shape = shape.image, shape
        self._fit_budget()
        rows.units = self._units(shape, self.storage.form)

    def _fit_budget(self) -> None:
        """Where the rows there are would not fit, all are kept in a smaller form from here on."""
        known = [each for each in self.row_caches.values() if each.shape is not None]
        before, form = self.storage.form, self.memory.choose(lambda form: [(each.shape, self._units(each.shape, form)) for each in known])
        self.storage.form = form
        for other in known:
            if form.computes != before.computes:
                other.forget()
            elif form != before:
                other.keep_again()

    def _units(self, shape: RowsShape, form: Form) -> tuple[Unit, ...]:
        """One entry a block. Neighbours that compute as many tokens are one run where they compute the same ones."""
        counts = tokens_per_block(self.settings, len(self.streams), shape.image, self.learned.shares)
        if not form.computes:
            counts = tuple(count if count == shape.image else 0 for count in counts)
        grouped = group_blocks(counts, shape.image, self.streams, shape.together and not self.planner.per_block)
        return tuple(unit for unit in grouped for _ in range(unit.first, unit.last + 1))

    def compute_index(self, rows: RowCache, n_rows: int, images: int, block: int, device: torch.device, alike: bool = False) -> TokenIndex:
        """The tokens per row that this evaluation computes in `block`; all rows of an image have the same. alike: all rows, the first image's."""
        evaluation, n_tokens, count = self.current, rows.n_tokens, rows.units[block].tokens
        key = (images, n_tokens, block if self.planner.per_block else None)
        if key not in evaluation.rankings:
            most = count if self.planner.per_block else max(unit.tokens for unit in rows.units if unit.kind == "tokens")
            evaluation.rankings[key] = self.planner.ranking(block, images, n_tokens, most, evaluation.tau, self.histories(rows))
        chosen = evaluation.rankings[key][:, :count].to(device).sort(dim=1).values
        if alike:
            chosen = chosen[:1].expand(images, -1)
        return TokenIndex(chosen.repeat(n_rows // images, 1), n_tokens, alike or images == 1)

    def histories(self, rows: RowCache) -> list[TokenHistory]:
        """Of some of the blocks that compute some tokens, of all rows like these."""
        some = sorted(rows.tokens)[:: max(1, len(rows.tokens) // _RATE_BLOCKS)]
        alike = [other for other in self.row_caches.values() if other.n_tokens == rows.n_tokens]
        return [other.tokens[block] for block in some for other in alike if block in other.tokens]

    def note(self, text: str) -> None:
        """Something that the user should read in the report; said once."""
        self.notes.setdefault(text)

    def close(self) -> Report:
        """Free the caches and report."""
        self.row_caches.clear()
        self.storage.release()
        if short := self.memory.shortfall(self.memory_bytes):
            self.note(short)
        self.corrector = self.error_bound = None
        self.learned.release()
        steps = tuple(evaluation.record() for evaluation in self.evaluations)
        return Report(
            steps=steps, memory_bytes=self.memory_bytes, expected_bytes=self.memory.most, storage=str(self.memory.form),
            settings=self.settings.text(), learned=self.learned.text(), notes=tuple(self.notes), latent=self.latent,
        )

    def _planner(self) -> Planner:
        if self.learned.predictor is None:
            return ScorePlanner(self.settings)
        return PredictedPlanner(self.learned.predictor, self.learned.every_step)

    def _spacing(self, step: int) -> float:
        """A little over half of the run's step in tau: solvers that evaluate between steps add no nodes to a forecast."""
        here, then = (self.taus[step], self.taus[step + 1]) if step + 1 < len(self.taus) else (self.taus[step - 1], self.taus[step])
        return 0.6 * abs(here - then)

    def _step_of(self, sigma: float) -> int:
        """The last step of the run whose sigma is not below `sigma` (solvers also evaluate between steps)."""
        return max((i for i, known in enumerate(self.sigmas) if known >= sigma * (1 - 1e-4)), default=0)

    def _next_sigma(self, step: int) -> float:
        return self.sigmas[step + 1] if step + 1 < len(self.sigmas) else self.end

    def _last_move(self) -> float | None:
        """How far the step of the last evaluation takes sigma; None where that was between steps or not below the one before."""
        evaluation, step = self.evaluations[-1], self.evaluations[-1].index
        falls = len(self.evaluations) < 2 or evaluation.sigma < self.evaluations[-2].sigma * (1 - 1e-6)
        if not falls or abs(self.sigmas[step] - evaluation.sigma) > 1e-4 * evaluation.sigma:
            return None
        return self._next_sigma(step) - evaluation.sigma or None

    def _after(self, evaluation: Evaluation) -> None:
        if evaluation.drawn is not None:
            evaluation.token_counts, evaluation.tokens = evaluation.drawn.settle(self.mask_bytes)
            self.mask_bytes -= evaluation.tokens.masks.numel()
            evaluation.drawn = None
        self.evaluations.append(evaluation)
        self.memory_bytes = max(self.memory_bytes, sum(rows.memory_bytes for rows in self.row_caches.values()))
        if len(self.evaluations) == 1 and self.memory.budget.device:
            self.memory.seen(sum(context.memory_bytes for rows in self.row_caches.values() for context in rows.contexts.values()))
            self._fit_budget()
        if evaluation.computes_all:  # rows that no longer occur (a conditioning's range ended) free their memory
            for key in self.row_caches.keys() - self.used:
                del self.row_caches[key]


def _direction(x: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """In which Euler's method moves x (B, ...), per unit of sigma."""
    return (x.float() - clean.float()) / sigma
