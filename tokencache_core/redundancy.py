"""How much of what a model computes it has computed the step before: the paper's first check, which needs no training.

A block's update of a token is compared with the one of the step before (TokenCache, arXiv 2409.18523, section 3): by
direction, and by how far apart they are as a share of the newer one's length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .distill import Run
from .history import TokenHistory
from .sampling import Denoise
from .plan import ScorePlanner
from .schedule import ExplicitSchedule
from .session import Session
from .settings import CacheSettings
from .token_grid import TokenGrid

_KEEP_ALL = CacheSettings(cache_ratio=0.5, order=1, context="computed", shares="uniform")   # an update a block, two steps deep


class _BlockByBlock(ScorePlanner):
    """Blocks that may compute tokens of their own keep updates of their own."""

    per_block = True


@dataclass(frozen=True)
class Redundancy:
    """Of one run, from its second step on. similarity, change: (steps - 1, blocks), means over tokens and rows.

    token_change: (steps - 1, images, N), means over blocks and conditionings. taus: of those steps. grid: where the tokens lie.
    """

    taus: tuple[float, ...]
    similarity: Tensor
    change: Tensor
    token_change: Tensor
    grid: TokenGrid | None


def measure_redundancy(run: Run) -> Redundancy:
    """Sample `run` whole and compare every step's updates with those of the step before."""
    steps = len(run.sigmas) - 1
    if steps < 2:
        raise ValueError(f"{steps} step has none before it to compare with: take at least 2")
    session = run.open_session(_KEEP_ALL, ExplicitSchedule(tuple(range(steps))), planner=_BlockByBlock(_KEEP_ALL))
    compared: list[tuple[float, Tensor, Tensor, Tensor]] = []

    def around(denoise: Denoise) -> Denoise:
        def watched(x: Tensor, sigma: Tensor) -> Tensor:
            with session.evaluation(float(sigma)) as evaluation, run.cached(session):
                clean = denoise(x, sigma)
            if len(session.evaluations) > 1:
                compared.append((evaluation.tau, *_compare_blocks(session, run.images)))
            return clean
        return watched

    with torch.no_grad():
        run.sample(around)
    report = session.close()
    taus, similarity, change, token_change = zip(*compared)
    return Redundancy(taus, torch.stack(similarity), torch.stack(change), torch.stack(token_change), report.grid)


def _compare_blocks(session: Session, images: int) -> tuple[Tensor, Tensor, Tensor]:
    """(blocks,) similarity, (blocks,) change, (images, N) change of the evaluation just made."""
    rows = [rows for key, rows in session.row_caches.items() if key in session.used]
    pairs = [[_compare(part.tokens[block], images, part.n_tokens) for part in rows] for block in sorted(rows[0].tokens)]
    similarity = torch.stack([torch.stack([both[0].mean() for both in parts]).mean() for parts in pairs])
    changes = torch.stack([torch.stack([both[1] for both in parts]).mean(dim=0) for parts in pairs])   # (blocks, images, N)
    return similarity.cpu(), changes.mean(dim=(1, 2)).cpu(), changes.mean(dim=0).cpu()


def _compare(history: TokenHistory, images: int, n_tokens: int) -> tuple[Tensor, Tensor]:
    """(images, N) cosine and relative change of the two last updates of the image tokens, means over conditionings."""
    newest, before, _ = history.newest_two()
    cosine = F.cosine_similarity(newest, before, dim=-1)
    change = (newest - before).norm(dim=-1) / newest.norm(dim=-1).clamp(min=1e-12)
    cosine, change = (history.of_image(each, n_tokens).unflatten(0, (-1, images)).mean(dim=0) for each in (cosine, change))
    return cosine, change
