"""Pictures of single steps: the tokens that each step computed, shown over the decoded pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine.computed_tokens import ALL, NONE, unpack_bits
from ..engine.record import Report, StepRecord
from .heatmap import enlarged, enlargement, frames_behind

# from the palette of Okabe and Ito, legible with any colour vision; the player on the page uses the same colours
FORECAST = torch.tensor([0.0, 114.0, 178.0]) / 255  # blue
COMPUTED = torch.tensor([230.0, 159.0, 0.0]) / 255  # orange
OFF, EVERY, ONLY_P = CHOICES = "off", "all steps", "P-steps"
_MAX_BYTES = 2**29  # maximum size of all pictures together; they are reduced to fit


def step_values(step: StepRecord, block: int) -> Tensor:
    """(images, N) in 0..1: whether a block computed each token, or the share of blocks that did.

    block: its number, counted from 1; 0: all blocks.
    """
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
    """The computed tokens of each step over the pictures: (P * steps, H', W', 3), all steps of a picture in a row.

    pictures: (P, H, W, 3) in [0, 1], decoded from the run.
    kinds: EVERY or ONLY_P.
    block: as in `step_values`.
    opacity: of the colours, 0..1.
    """
    n_blocks, grid = len(report.steps[0].block_tokens), report.grid
    if grid is None:
        raise ValueError(report.unplaced)
    if block > n_blocks:
        raise ValueError(f"there is no block {block}: the model has {n_blocks}")
    shape = report.token_counts.shape
    steps = [step for step in report.steps if step.token_counts.shape == shape and (kinds == EVERY or step.kind == "P")]
    if not steps:
        raise ValueError("there are no P-steps in this run")
    behind = frames_behind(shape[0], len(pictures), grid)
    # (P, S, rows, columns)
    values = torch.stack([grid.places(step_values(step, block))[:, behind].flatten(0, 1) for step in steps], dim=1)
    height, width = _size(values.shape[0] * values.shape[1], *pictures.shape[1:3])
    heat = enlarged(torch.lerp(FORECAST, COMPUTED, values.flatten(0, 1)[..., None]), height, width)
    under = enlarged(pictures[..., :3].cpu(), height, width)[:, None].expand(-1, len(steps), -1, -1, -1).flatten(0, 1)
    return heat.lerp_(under, 1 - opacity)


def _size(count: int, height: int, width: int) -> tuple[int, int]:
    """The size at which `count` pictures are shown: enlarged so that tokens can be seen, but limited by memory."""
    fits = (_MAX_BYTES / (count * 12 * height * width)) ** 0.5
    scale = min(enlargement(height, width), fits)
    return max(1, int(height * scale)), max(1, int(width * scale))
