"""How much of what a model computes it has computed the step before: the paper's first check, which needs no training.

A block's update of a token is compared with the one of the step before (TokenCache, arXiv 2409.18523, section 3): by
direction, and by how far apart they are as a share of the newer one's length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks.token_grid import TokenGrid
from ..engine.forecast import TokenHistory
from ..engine.log import Evaluation
from ..engine.session import Session
from ..engine.store import Rows
from ..engine.token_choice import ScorePlanner
from ..reporting.player_data import MAP_BYTES
from ..runs.run import Run
from ..sampling.samplers import Denoise
from ..schedules.schedule import ExplicitSchedule
from ..settings import CacheSettings

_KEEP_ALL = CacheSettings(
    cache_ratio=0.5, order=1, context="computed", shares="uniform"
)  # an update a block, two steps deep
_KEPT_BYTES = 2**28  # of updates that outlive their step
_MOST_KEPT = 32  # tokens a row of which they are


class _BlockByBlock(ScorePlanner):
    """Blocks that may compute tokens of their own keep updates of their own."""

    per_block = True


@dataclass(frozen=True)
class StepClock:
    """Of one evaluation. seconds: without what measuring took, on a CPU. by_block: of these, inside of each block;
    none: on a GPU, not known.

    block_tokens: computed by each block, summed over rows. step: the run's.
    """

    step: int
    sigma: float
    seconds: float
    by_block: tuple[float, ...]
    block_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Redundancy:
    """Of one run, from its second step on. similarity, change: (steps - 1, blocks), means over tokens and rows.

    token_change: (steps - 1, images, N), means over blocks and conditionings. taus: of those steps. grid: where the
        tokens lie.
    unplaced: why nobody knows. compared: which of the `clocks`, one an evaluation, those steps are. maps: (steps - 1,
    groups, images, N), as token_change of `groups` (first, last) of neighbouring blocks. kept_taus, kept: (steps),
    (steps, blocks, tokens, D), the updates of some tokens, evenly spread. end: the samples (B, ...).
    """

    taus: tuple[float, ...]
    similarity: Tensor
    change: Tensor
    token_change: Tensor
    grid: TokenGrid | None
    unplaced: str | None
    compared: tuple[int, ...]
    clocks: tuple[StepClock, ...]
    groups: tuple[tuple[int, int], ...]
    maps: Tensor
    kept_taus: tuple[float, ...]
    kept: Tensor
    end: Tensor


def measure_redundancy(run: Run, on_progress: Callable[[int], None] = lambda evaluations: None) -> Redundancy:
    """Sample `run` whole and compare every step's updates with those of the step before. on_progress: called after each
    evaluation, of how many so far.
    """
    steps = len(run.sigmas) - 1
    if steps < 2:
        raise ValueError(f"{steps} step has none before it to compare with: take at least 2")
    session = run.open_session(_KEEP_ALL, ExplicitSchedule(tuple(range(steps))), planner=_BlockByBlock(_KEEP_ALL))
    compared: list[tuple[int, float, Tensor, Tensor, Tensor]] = []
    kept, groups = _Kept(session, steps), ()

    def around(denoise: Denoise) -> Denoise:
        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal groups
            with session.evaluation(float(sigma)) as evaluation, run.cached(session):
                evaluation.spacing = 0.0  # what a solver evaluates between steps is compared as well
                clean = denoise(x, sigma)
            kept.take(evaluation)
            changes = _compare_blocks(session, run.images)
            if changes is not None:
                similarity, change = changes  # (blocks,), (blocks, images, N)
                groups = groups or groups_of(len(change), MAP_BYTES // (change[0].numel() * (steps - 1)))
                maps = torch.stack([change[first : last + 1].mean(dim=0) for first, last in groups])
                compared.append(
                    (len(session.log.evaluations) - 1, evaluation.tau, similarity, change.mean(dim=(1, 2)), maps)
                )
            on_progress(len(session.log.evaluations))
            return clean

        return watched

    with torch.no_grad():
        end = run.sample(around)
    clocks = tuple(map(_clock, session.log.evaluations))
    report = session.close()
    if not compared:
        raise ValueError(
            "no two steps had updates to compare: the model's blocks ran uncached. " + " ".join(report.notes)
        )
    places, taus, similarity, change, maps = zip(*compared)
    maps = torch.stack(maps)
    weights = torch.tensor([last + 1.0 - first for first, last in groups])
    token_change = (maps * weights[:, None, None]).sum(dim=1) / weights.sum()
    return Redundancy(
        taus,
        torch.stack(similarity),
        torch.stack(change),
        token_change,
        report.grid,
        report.unplaced,
        places,
        clocks,
        groups,
        maps,
        tuple(kept.taus),
        torch.stack(kept.updates),
        end,
    )


def groups_of(blocks: int, most: int) -> tuple[tuple[int, int], ...]:
    """(first, last) of at most `most` groups, and at least one, of as many neighbouring blocks each as can be."""
    each = -(-blocks // max(1, most))
    return tuple((first, min(first + each, blocks) - 1) for first in range(0, blocks, each))


class _Kept:
    """The updates of some tokens of one set of rows, once a step."""

    def __init__(self, session: Session, steps: int) -> None:
        self.session, self.steps = session, steps
        self.key: Hashable = None
        self.tokens = torch.zeros(0, dtype=torch.long)
        self.taus: list[float] = []
        self.updates: list[Tensor] = []  # each (blocks, tokens of all rows, D)
        self.step = -1

    def take(self, evaluation: Evaluation) -> None:
        rows = _rows(self.session, 1)
        if evaluation.index == self.step or not rows:
            return
        self.key = next(iter(rows)) if self.key is None else self.key
        if self.key not in rows:  # these conditionings are not part of this step
            return
        part, self.step = rows[self.key], evaluation.index
        histories = part.histories
        updates = [self._some(histories[block], part.n_tokens, len(histories)) for block in sorted(histories)]
        self.taus.append(evaluation.tau)
        self.updates.append(torch.stack(updates))

    def _some(self, history: TokenHistory, n_tokens: int, blocks: int) -> Tensor:
        update = history.of_image(history.whole.newest_first(1)[1][0], n_tokens)  # (R, N, D)
        if not len(self.tokens):
            each = update.shape[0] * update.shape[2] * update.element_size() * blocks * self.steps
            count = max(1, min(_MOST_KEPT, n_tokens, _KEPT_BYTES // each))
            self.tokens = torch.linspace(0, n_tokens - 1, count + 2)[1:-1].round().long()
        return update[:, self.tokens.to(update.device)].flatten(0, 1).cpu()


def _rows(session: Session, refreshes: int) -> dict[Hashable, Rows]:
    """Of the evaluation just made, those that have so many updates of every block, and as many tokens as any: all
    conditionings of the whole.
    """
    rows = {
        key: rows for key, rows in session.store.rows_by_key.items() if key in session.store.used and rows.histories
    }
    most = max((each.n_tokens for each in rows.values()), default=0)
    return {
        key: each
        for key, each in rows.items()
        if each.n_tokens == most and all(len(history.whole.taus) >= refreshes for history in each.histories.values())
    }


def _compare_blocks(session: Session, images: int) -> tuple[Tensor, Tensor] | None:
    """(blocks,) similarity, (blocks, images, N) change of the evaluation just made; None: there is none before it."""
    rows = list(_rows(session, 2).values())
    if not rows:
        return None
    histories = [part.histories for part in rows]
    pairs = [
        [_compare(each[block], images, part.n_tokens) for part, each in zip(rows, histories)]
        for block in sorted(histories[0])
    ]
    similarity = torch.stack([torch.stack([both[0].mean() for both in parts]).mean() for parts in pairs])
    changes = torch.stack(
        [torch.stack([both[1] for both in parts]).mean(dim=0) for parts in pairs]
    )  # (blocks, images, N)
    return similarity.cpu(), changes.cpu()


def _compare(history: TokenHistory, images: int, n_tokens: int) -> tuple[Tensor, Tensor]:
    """(images, N) cosine and relative change of the two last updates of the image tokens, means over conditionings."""
    newest, before, _ = history.newest_two()
    cosine = F.cosine_similarity(newest, before, dim=-1)
    change = (newest - before).norm(dim=-1) / newest.norm(dim=-1).clamp(min=1e-12)
    cosine, change = (
        history.of_image(each, n_tokens).unflatten(0, (-1, images)).mean(dim=0) for each in (cosine, change)
    )
    return cosine, change


def _clock(evaluation: Evaluation) -> StepClock:
    by_block = tuple(evaluation.block_seconds) if any(evaluation.block_seconds) else ()
    seconds = evaluation.watch.seconds() - evaluation.bookkeeping
    return StepClock(evaluation.index, evaluation.sigma, seconds, by_block, tuple(evaluation.computed))
