"""A finished run as plain data for a player on a page: per step and block a map of values in 0..1, small enough to
send.

The same form serves maps of bits (which tokens were computed) and of finer values (how much a token changed): a step
has groups of neighbouring blocks, and a group is ALL ones, NONE, or the number of a map (images, frames, rows,
columns).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..blocks.token_grid import TokenGrid
from ..engine.computed_tokens import ALL, NONE, unpack_bits
from ..engine.record import Report, StepRecord
from .heatmap import frames_behind

VERSION = 1
MAP_BYTES = 384 * 1024  # of all maps before they are compressed
Group = tuple[
    int, int, str | int | None
]  # first block, last block, "all", "none", the number of a map, or None: not known


@dataclass(frozen=True)
class PlayerStep:
    """One evaluation. index: the run's step that it belongs to. groups: of all blocks that ran."""

    index: int
    kind: str
    seconds: float
    sigma: float
    compute: float
    groups: tuple[Group, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "kind": self.kind,
            "seconds": round(self.seconds, 6),
            "sigma": round(self.sigma, 6),
            "compute": round(self.compute, 6),
            "groups": [list(group) for group in self.groups],
        }


def player_data(report: Report, n_pictures: int) -> dict[str, Any]:
    """Which tokens a run computed, for n_pictures decoded from it: pictures, or the frames of one video after the
    other's.
    """
    grid = report.grid
    if grid is None:
        return encoded(
            _steps(report, {}), None, images=1, blocks=_blocks(report), frames=[0] * n_pictures, notes=[report.unplaced]
        )
    n_tokens, images = report.token_counts.shape[1], report.token_counts.shape[0]
    places = grid.frames * grid.per_frame
    alike = [number for number, step in enumerate(report.steps) if tuple(step.token_counts.shape) == (images, n_tokens)]
    every = [(number, mask) for number in alike for mask in range(len(report.steps[number].tokens.masks))]
    stride = max(1, -(-len(every) * images * -(-places // 8) // MAP_BYTES))
    kept = {place: number for number, place in enumerate(every[::stride])}
    bits = [unpack_bits(report.steps[step].tokens.masks[mask], n_tokens)[:, :places] for step, mask in kept]
    maps = torch.stack(bits) if bits else torch.zeros(0, images, places, dtype=torch.uint8)
    notes = (
        []
        if stride == 1
        else [
            f"Of {len(every)} maps of tokens every {stride}th is here, because all would be too much to send to a page."
        ]
    )
    frames = frames_behind(images, n_pictures, grid)
    return encoded(
        _steps(report, kept), grid, images=images, blocks=_blocks(report), frames=frames, maps=maps, notes=notes
    )


def encoded(
    steps: Sequence[PlayerStep],
    grid: TokenGrid | None,
    *,
    images: int,
    blocks: int,
    frames: Sequence[int],
    maps: Tensor | None = None,
    notes: Sequence[str] = (),
    legend: tuple[str, str] = ("forecast", "computed"),
    measure: tuple[str, float] | None = None,
) -> dict[str, Any]:
    """What the player takes, fit for JSON.

    grid: of the tokens; None: there are no maps. frames: the frame of tokens behind each decoded picture of one image
    (or video). maps: (maps, images, tokens) of bits (uint8 0 and 1) or of values in 0..1 (float). legend: what 0 and 1
    mean. measure: what values measure, and how much of it 1 is; None: 1 is one.
    """
    return {
        "version": VERSION,
        "blocks": blocks,
        "images": images,
        "frames": list(frames),
        "legend": list(legend),
        "grid": None if grid is None else [grid.frames, grid.rows, grid.columns],
        "measure": None if measure is None else {"name": measure[0], "full": measure[1]},
        "steps": [step.as_dict() for step in steps],
        "maps": None if maps is None else _packed(maps),
        "notes": list(notes),
    }


def _packed(maps: Tensor) -> dict[str, Any]:
    """Each map begins at a byte of its own: of bits in numpy.packbits' order, or of bytes 0..255 for 0..1."""
    flat = maps.flatten(1).cpu()
    if flat.is_floating_point():
        form, values = "bytes", (flat.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    else:
        form, values = "bits", np.packbits(flat.numpy(), axis=1)
    return {"form": form, "count": len(flat), "data": base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()}


def _steps(report: Report, kept: dict[tuple[int, int], int]) -> list[PlayerStep]:
    """kept: (step, mask) -> the map's number."""
    return [
        PlayerStep(step.index, step.kind, step.seconds, step.sigma, step.compute, _groups(number, step, kept))
        for number, step in enumerate(report.steps)
    ]


def _groups(number: int, step: StepRecord, kept: dict[tuple[int, int], int]) -> tuple[Group, ...]:
    return tuple(
        (
            group.first,
            group.last,
            group.computed if group.computed in (ALL, NONE) else kept.get((number, group.computed)),
        )
        for group in step.tokens.groups
    )


def _blocks(report: Report) -> int:
    return len(report.steps[0].block_tokens)
