"""What lives during one sampling run: its schedule, its caches, its clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from .allocation import Unit, group_blocks, tokens_per_block
from .context import AttentionContext
from .history import RunHistory, TokenHistory
from .plan import Planner, ScorePlanner
from .report import Report, StepRecord
from .schedule import Schedule
from .settings import CacheSettings
from .stopwatch import Stopwatch
from .token_index import TokenIndex


class RowCache:
    """What one set of batch rows keeps between steps, by block or, where a run reuses together, by its first block."""

    def __init__(self) -> None:
        self.units: tuple[Unit, ...] = ()       # one entry a block; empty until the first I-step knows the token count
        self.runs: dict[int, list[RunHistory]] = {}          # one history a stream (image, text)
        self.tokens: dict[int, TokenHistory] = {}
        self.contexts: dict[int, AttentionContext] = {}

    def lay_out(self, settings: CacheSettings, streams: tuple[str, ...], n_tokens: int) -> None:
        counts = tokens_per_block(settings, len(streams), n_tokens)
        grouped = group_blocks(counts, n_tokens, streams)
        self.units = tuple(unit for unit in grouped for _ in range(unit.first, unit.last + 1))

    @property
    def memory_bytes(self) -> int:
        runs = [history for streams in self.runs.values() for history in streams]
        return sum(kept.memory_bytes for kept in (*runs, *self.tokens.values(), *self.contexts.values()))


class Evaluation:
    """One evaluation of the model at one sigma; it may take several calls of the network (conditionings apart)."""

    def __init__(self, index: int, sigma: float, tau: float, computes_all: bool, n_blocks: int, device: torch.device) -> None:
        self.index, self.sigma, self.tau, self.computes_all = index, sigma, tau, computes_all
        self.watch = Stopwatch(device)
        self.bookkeeping = 0.0
        self.rows = 0
        self.computed = [0] * n_blocks           # tokens computed, summed over rows
        self.available = 0                       # tokens there were, summed over rows and blocks
        self.rankings: dict[tuple[int, int], Tensor] = {}
        self.token_counts: Tensor | None = None  # (images, N)
        self.misses = 0
        self.calls: Counter[Hashable] = Counter()

    def record(self) -> StepRecord:
        counts = torch.zeros(0, 0) if self.token_counts is None else self.token_counts.cpu()
        return StepRecord(
            index=self.index, sigma=self.sigma, kind="I" if self.computes_all else "P", seconds=self.watch.seconds(),
            bookkeeping=self.bookkeeping, compute=sum(self.computed) / max(1, self.available),
            block_tokens=tuple(tokens / max(1, self.rows) for tokens in self.computed), token_counts=counts, misses=self.misses,
        )


class Session:
    """Opened when sampling starts and closed when it ends; closing gives the report and frees the caches.

    sigmas, taus: the run's own steps (without the final zero). streams: one name a block (`BlockSpec.stream`).
    """

    def __init__(
        self, settings: CacheSettings, schedule: Schedule, *, sigmas: Sequence[float], taus: Sequence[float],
        streams: tuple[str, ...], device: torch.device | str = "cpu", planner: Planner | None = None,
    ) -> None:
        self.settings, self.sigmas, self.streams = settings, list(sigmas), streams
        self.i_steps = schedule.i_steps(taus)
        self.planner = planner or ScorePlanner(settings)
        self.device = torch.device(device)
        self.row_caches: dict[Hashable, RowCache] = {}
        self.used: set[Hashable] = set()
        self.evaluations: list[Evaluation] = []
        self.current: Evaluation | None = None
        self.memory_bytes = 0
        self.notes: list[str] = []
        tokens_per_block(settings, len(streams), 1)  # refuses a K beyond the model's depth before any work is done

    @contextmanager
    def evaluation(self, sigma: float, tau: float) -> Iterator[Evaluation]:
        """Around one evaluation at `sigma`, whose model time scaled to [0, 1] is `tau`."""
        previous = self.evaluations[-1] if self.evaluations else None
        rising = previous is not None and sigma > previous.sigma * (1 + 1e-6)
        step = self._step_of(sigma)
        computes_all = previous is None or rising or step in self.i_steps
        self.current = Evaluation(step, sigma, tau, computes_all, len(self.streams), self.device)
        self.used = set()
        if computes_all:
            self.planner.computed_all(tau)
        try:
            yield self.current
        finally:
            self.current.watch.stop()
            self._after(self.current)
            self.current = None

    def rows(self, key: Hashable) -> RowCache:
        """The cache of the rows named by `key`; a second call with the same key in one evaluation has a cache of its own."""
        key = (key, self.current.calls[key])
        self.current.calls[key[0]] += 1
        self.used.add(key)
        return self.row_caches.setdefault(key, RowCache())

    def compute_index(self, rows: RowCache, n_rows: int, images: int, n_tokens: int, count: int) -> TokenIndex:
        """The `count` tokens per row that this evaluation computes; all rows of an image have the same."""
        evaluation, key = self.current, (images, n_tokens)
        if key not in evaluation.rankings:
            most = max(unit.tokens for unit in rows.units if unit.kind == "tokens")
            histories = list(rows.tokens.values())
            ranking = self.planner.ranking(images, n_tokens, most, evaluation.tau, histories)
            evaluation.rankings[key] = ranking.to(self.device)
        chosen = evaluation.rankings[key][:, :count].sort(dim=1).values
        return TokenIndex(chosen.repeat(n_rows // images, 1), n_tokens)

    def close(self) -> Report:
        """Free the caches and report."""
        self.row_caches.clear()
        steps = tuple(evaluation.record() for evaluation in self.evaluations)
        return Report(steps=steps, memory_bytes=self.memory_bytes, settings=str(self.settings), notes=tuple(self.notes))

    def _step_of(self, sigma: float) -> int:
        """The last step of the run whose sigma is not below `sigma` (solvers also evaluate between steps)."""
        return max((i for i, known in enumerate(self.sigmas) if known >= sigma * (1 - 1e-4)), default=0)

    def _after(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)
        self.memory_bytes = max(self.memory_bytes, sum(rows.memory_bytes for rows in self.row_caches.values()))
        if evaluation.computes_all:  # rows that no longer occur (a conditioning's range ended) free their memory
            for key in self.row_caches.keys() - self.used:
                del self.row_caches[key]
