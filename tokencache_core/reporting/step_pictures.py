"""Pictures of single steps: which tokens a step computed, laid over what was decoded."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine.computed_tokens import ALL, NONE, unpack_bits
from ..engine.record import Report, StepRecord
from .heatmap import enlarged, enlargement, frames_behind

# of the palette of Okabe and Ito, legible with any colour vision; the player on the page has the same
FORECAST = torch.tensor([0.0, 114.0, 178.0]) / 255  # blue
COMPUTED = torch.tensor([230.0, 159.0, 0.0]) / 255  # orange
OFF, EVERY, ONLY_P = CHOICES = "off", "all steps", "P-steps"
_MOST_BYTES = 2**29  # of all pictures together; beyond it they are made smaller


def step_values(step: StepRecord, block: int) -> Tensor:
    """(images, N) in 0..1: whether `block`, counted from 1, computed each token; 0: the share of blocks that did."""
    groups = step.tokens.groups
    if not block:
        return step.token_counts / max(1, sum(group.last - group.first + 1 for group in groups))
    computed = next((group.computed for group in groups if group.first < block <= group.last + 1), None)
    if computed in (ALL, NONE):
        return torch.full_like(step.token_counts, float(computed == ALL))
    if not isinstance(computed, int):
        raise ValueError(f"which tokens block {block} computed was not kept: choose all blocks")
    return unpack_bits(step.tokens.masks[computed], step.token_counts.shape[1]).float()


def steps_over_pictures(report: Report, pictures: Tensor, kinds: str, block: int = 0, opacity: float = 0.6) -> Tensor:
    """Tokens computed laid over pictures (P, H, W, 3) in [0, 1]: every picture through all its steps, (P * steps, H',
    W', 3).

    kinds: EVERY or ONLY_P. block: as `step_values` has it.
    """
    n_blocks, grid = len(report.steps[0].block_tokens), report.grid
    if block > n_blocks:
        raise ValueError(f"there is no block {block}: the model has {n_blocks}")
    shape = report.token_counts.shape
    steps = [step for step in report.steps if step.token_counts.shape == shape and (kinds == EVERY or step.kind == "P")]
    if not steps:
        raise ValueError("there are no P-steps in this run")
    behind = frames_behind(shape[0], len(pictures), grid)
    values = torch.stack(
        [grid.places(step_values(step, block))[:, behind].flatten(0, 1) for step in steps], dim=1
    )  # (P, S, rows, columns)
    height, width = _size(values.shape[0] * values.shape[1], *pictures.shape[1:3])
    heat = enlarged(torch.lerp(FORECAST, COMPUTED, values.flatten(0, 1)[..., None]), height, width)
    under = enlarged(pictures[..., :3].cpu(), height, width)[:, None].expand(-1, len(steps), -1, -1, -1).flatten(0, 1)
    return heat.lerp_(under, 1 - opacity)


def _size(count: int, height: int, width: int) -> tuple[int, int]:
    """Of `count` pictures: enlarged where small, so that tokens can be seen, and reduced where all would take too much
    memory.
    """
    fits = (_MOST_BYTES / (count * 12 * height * width)) ** 0.5
    scale = min(enlargement(height, width), fits)
    return max(1, int(height * scale)), max(1, int(width * scale))
