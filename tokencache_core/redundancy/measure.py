"""Measurement of redundancy: how much a model's updates change from step to step.

Each block's update of a token is compared with that of the step before (TokenCache, arXiv 2409.18523, section 3): by
cosine similarity, and by the length of their difference, relative to the newer one's length.
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

# keeps one update per block, of the last two steps
_KEEP_ALL = CacheSettings(cache_ratio=0.5, order=1, fitted=False, context="computed", shares="uniform")
_KEPT_BYTES = 2**28  # maximum size of the updates that are kept for the whole run
_MAX_KEPT = 32  # maximum number of tokens per row whose updates are kept


class _BlockByBlock(ScorePlanner):
    """A planner with a ranking per block, which makes every block keep its own update."""

    per_block = True


@dataclass(frozen=True)
class StepClock:
    """The timing of one evaluation.

    step: the run's step that it belongs to.
    seconds: on a CPU without the time for measuring.
    by_block: seconds of these inside each block; empty if not known (on a GPU).
    block_tokens: tokens computed by each block, summed over rows.
    """

    step: int
    sigma: float
    seconds: float
    by_block: tuple[float, ...]
    block_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Redundancy:
    """The redundancy of one run, from its second step on.

    taus: of the compared steps.
    similarity, change: (steps - 1, blocks), means over tokens and rows.
    token_change: (steps - 1, images, N), means over blocks and conditionings.
    grid: of the tokens; None: not known.
    unplaced: why the grid is not known; None: it is known.
    compared: indices into `clocks` of the compared steps.
    clocks: one per evaluation.
    groups: (first, last) of groups of neighbouring blocks.
    maps: (steps - 1, groups, images, N), like token_change, but means over the blocks of each group.
    kept_taus: of all steps.
    kept: (steps, blocks, tokens, D), the updates of some evenly spread tokens.
    end: the samples (B, ...).
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
    """Sample `run` in full, and compare every step's updates with those of the step before.

    on_progress: called after each evaluation with the number of evaluations so far.
    """
    steps = len(run.sigmas) - 1
    if steps < 2:
        raise ValueError(f"{steps} step has none before it to compare with: take at least 2")
    session = run.open_session(_KEEP_ALL, ExplicitSchedule(tuple(range(steps))), planner=_BlockByBlock(_KEEP_ALL))
    compared: list[tuple[int, float, Tensor, Tensor, Tensor]] = []
    kept = _Kept(session, steps)
    groups: list[tuple[int, int]] = []

    def around(denoise: Denoise) -> Denoise:
        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            with session.evaluation(float(sigma)) as evaluation, run.cached(session):
                evaluation.spacing = 0.0  # so that evaluations between steps are compared as well
                clean = denoise(x, sigma)
            kept.take(evaluation)
            changes = _compare_blocks(session, run.images)
            if changes is not None:
                similarity, change = changes  # (blocks,), (blocks, images, N)
                if not groups:
                    groups.extend(groups_of(len(change), MAP_BYTES // (change[0].numel() * (steps - 1))))
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
        tuple(groups),
        maps,
        tuple(kept.taus),
        torch.stack(kept.updates),
        end,
    )


def groups_of(blocks: int, max_groups: int) -> tuple[tuple[int, int], ...]:
    """(first, last) of groups of neighbouring blocks, of equal size if possible: 1 to `max_groups` of them."""
    each = -(-blocks // max(1, max_groups))
    return tuple((first, min(first + each, blocks) - 1) for first in range(0, blocks, each))


class _Kept:
    """Collects the updates of some tokens of one set of rows, once per step."""

    def __init__(self, session: Session, steps: int) -> None:
        self.session, self.steps = session, steps
        self.key: Hashable = None
        self.tokens = torch.zeros(0, dtype=torch.long)
        self.taus: list[float] = []
        self.updates: list[Tensor] = []  # each (blocks, tokens of all rows, D)
        self.step = -1

    def take(self, evaluation: Evaluation) -> None:
        """Collect the updates of an evaluation, unless its step was already seen."""
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
            count = max(1, min(_MAX_KEPT, n_tokens, _KEPT_BYTES // each))
            self.tokens = torch.linspace(0, n_tokens - 1, count + 2)[1:-1].round().long()
        return update[:, self.tokens.to(update.device)].flatten(0, 1).cpu()


def _rows(session: Session, refreshes: int) -> dict[Hashable, Rows]:
    """The rows of the last evaluation that can be compared: all conditionings of the whole latent.

    These have at least `refreshes` updates of every block, and the largest number of tokens.
    """
    rows = {
        key: rows for key, rows in session.store.rows_by_key.items() if key in session.store.used and rows.histories
    }
    n_tokens = max((each.n_tokens for each in rows.values()), default=0)
    return {
        key: each
        for key, each in rows.items()
        if each.n_tokens == n_tokens
        and all(len(history.whole.taus) >= refreshes for history in each.histories.values())
    }


def _compare_blocks(session: Session, images: int) -> tuple[Tensor, Tensor] | None:
    """Similarity (blocks,) and change (blocks, images, N) of the last evaluation; None if there is none before it."""
    rows = list(_rows(session, 2).values())
    if not rows:
        return None
    histories = [part.histories for part in rows]
    pairs = [
        [_compare(each[block], images, part.n_tokens) for part, each in zip(rows, histories)]
        for block in sorted(histories[0])
    ]
    similarity = torch.stack([torch.stack([both[0].mean() for both in parts]).mean() for parts in pairs])
    changes = torch.stack([torch.stack([both[1] for both in parts]).mean(dim=0) for parts in pairs])
    return similarity.cpu(), changes.cpu()


def _compare(history: TokenHistory, images: int, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Cosine and relative change, (images, N) each, of the image tokens' last two updates, means over conditionings."""
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
