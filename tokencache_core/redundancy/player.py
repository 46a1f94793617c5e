"""Redundancy data for the player on the page: how much each token's update changed, by step and block."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..reporting.heatmap import frames_behind
from ..reporting.player_data import MAP_BYTES, PlayerStep, encoded
from ..words.message import say
from .measure import Redundancy

QUANTILE = 0.98  # of all values; the brightest colour is a value near it


def redundancy_data(found: Redundancy, n_pictures: int, verdict: str = "") -> dict[str, Any]:
    """The data for the player, fit for JSON.

    n_pictures: number of pictures decoded from the run's samples; 0: none, so that frames of tokens are shown alone.
    verdict: text shown below.
    """
    full = scale(found.maps)
    grid, images, blocks = found.grid, found.maps.shape[2], found.change.shape[1]
    notes = [verdict] if verdict else []
    steps, groups = found.maps.shape[:2]
    if groups < blocks:
        notes.append(
            say(
                "player_grouped_blocks",
                "Neighbouring blocks are shown together, in {groups} groups, because all {blocks} would be too much to "
                "send to the page.",
                groups=groups,
                blocks=blocks,
            )
        )
    legend, measure = ("0 %", f"{100 * full:g} % or more"), ("mean change", full)
    if grid is None:
        if found.unplaced:
            notes.append(found.unplaced)
        return encoded(
            _steps(found, []), None, images=images, blocks=blocks, frames=[0] * max(1, n_pictures), notes=notes
        )
    frames = frames_behind(images, n_pictures, grid) if n_pictures else list(range(grid.frames))
    maps = grid.places(found.maps / full).clamp(max=1).flatten(3)  # (steps, groups, images, places)
    stride = max(1, -(-maps.numel() // MAP_BYTES))
    shown = list(range(0, steps, stride))
    if stride > 1:
        notes.append(
            say(
                "player_thinned_steps",
                "Only one step in {stride} has a map of its tokens, because all would be too much to send to the page.",
                stride=stride,
            )
        )
    return encoded(
        _steps(found, shown),
        grid,
        images=images,
        blocks=blocks,
        frames=frames,
        maps=maps[shown].flatten(0, 1).float(),
        notes=notes,
        legend=legend,
        measure=measure,
    )


def scale(maps: Tensor) -> float:
    """A value that almost none exceeds, rounded up to one digit: 0.0123 -> 0.02."""
    values = maps.flatten().float()
    values = values[:: max(1, len(values) // 1_000_000)]
    highest = max(float(torch.quantile(values, QUANTILE)), 1e-4)
    power = 10.0 ** torch.tensor(highest).log10().floor().item()
    return min(1.0, max(1, -(-round(highest / power, 6) // 1)) * power)


def _steps(found: Redundancy, shown: list[int]) -> list[PlayerStep]:
    """The player's steps. shown: numbers of the compared steps that have maps, in order."""
    first = {step: number * len(found.groups) for number, step in enumerate(shown)}
    return [
        PlayerStep(
            clock.step,
            "I",
            clock.seconds,
            clock.sigma,
            1.0,
            tuple(
                (*blocks, first[place] + number if place in first else None)
                for number, blocks in enumerate(found.groups)
            ),
        )
        for place, clock in enumerate(found.clocks[number] for number in found.compared)
    ]
