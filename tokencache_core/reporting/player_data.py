"""Data of a finished run for the player on the page: a map of values in 0..1 for each step and block, small enough to
be sent to a browser.

The same format is used for maps of bits (which tokens were computed) and of other values (how much a token changed). A
step has groups of neighbouring blocks, and each group has all ones (ALL), all zeros (NONE), or the number of a map
(images, frames, rows, columns).
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
from ..words.message import say
from .heatmap import frames_behind

VERSION = 1
MAP_BYTES = 384 * 1024  # maximum size of all maps, before compression
# first block, last block, and "all", "none", the number of a map, or None if not known
Group = tuple[int, int, str | int | None]


@dataclass(frozen=True)
class PlayerStep:
    """One evaluation.

    index: the run's step that it belongs to.
    kind: "I" or "P".
    compute: share of the block-tokens computed, 0..1.
    groups: of all blocks that ran.
    """

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
    """Data on which tokens a run computed.

    n_pictures: number of pictures decoded from the run, or of frames of all its videos.
    """
    grid = report.grid
    if grid is None:
        notes = [report.unplaced] if report.unplaced else []
        frames = [0] * n_pictures
        return encoded(_steps(report, {}), None, images=1, blocks=_blocks(report), frames=frames, notes=notes)
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
            say(
                "player_thinned_maps",
                "Only one in {stride} of the {count} maps of tokens is here, because all would be too much to send to "
                "the page.",
                stride=stride,
                count=len(every),
            )
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
    """The player's data, fit for JSON.

    grid: of the tokens; None: there are no maps.
    images: number of images (or videos) of the run.
    blocks: number of blocks of the model.
    frames: for each decoded picture of one image (or video), the frame of tokens that it comes from.
    maps: (maps, images, tokens), bits (uint8 0 and 1) or values in 0..1 (float).
    notes: shown below the maps.
    legend: the meaning of 0 and 1.
    measure: name of the measured quantity, and its value for 1; None: values are shown as they are.
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
    """Compressed maps, each starting at a new byte: bits in numpy.packbits' order, or bytes 0..255 for 0..1."""
    flat = maps.flatten(1).cpu()
    if flat.is_floating_point():
        form, values = "bytes", (flat.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    else:
        form, values = "bits", np.packbits(flat.numpy(), axis=1)
    return {"form": form, "count": len(flat), "data": base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()}


def _steps(report: Report, kept: dict[tuple[int, int], int]) -> list[PlayerStep]:
    """The player's steps. kept: from (step, mask) to the number of the map."""
    return [
        PlayerStep(step.index, step.kind, step.seconds, step.sigma, step.compute, _groups(number, step, kept))
        for number, step in enumerate(report.steps)
    ]


def _groups(number: int, step: StepRecord, kept: dict[tuple[int, int], int]) -> tuple[Group, ...]:
    def value(computed: str | int) -> str | int | None:
        if isinstance(computed, int):
            return kept.get((number, computed))
        return computed if computed in (ALL, NONE) else None

    return tuple((group.first, group.last, value(group.computed)) for group in step.tokens.groups)


def _blocks(report: Report) -> int:
    return len(report.steps[0].block_tokens)
