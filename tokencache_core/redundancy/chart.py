"""The redundancy chart: similarity and change by step and block, and maps of one image's tokens over time."""

from __future__ import annotations

from pathlib import Path

import torch

from .measure import Redundancy

MAPS = 8  # largest number of maps


def draw_redundancy_chart(file: Path, found: Redundancy, title: str) -> None:
    """Draw the chart and save it as a PNG file. The grid of the tokens must be known."""
    from matplotlib.figure import Figure  # an optional dependency, which only the experiments need

    grid = found.grid
    if grid is None:
        raise ValueError(found.unplaced)
    figure = Figure(figsize=(11, 7), dpi=120, layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(3, 2))[:, 0]
    top.suptitle(title)
    for axes, values, label in zip(
        top.subplots(1, 2),
        (found.similarity, found.change),
        ("cosine of a block's update and the previous one", "its change, as a share of its length"),
    ):
        steps, blocks = values.shape
        picture = axes.imshow(
            values.T, aspect="auto", origin="lower", cmap="viridis", extent=(0.5, steps + 0.5, -0.5, blocks - 0.5)
        )
        axes.set(xlabel="step, compared with the previous one", ylabel="block", title=label)
        top.colorbar(picture, ax=axes)
    steps = torch.linspace(0, len(found.taus) - 1, min(MAPS, len(found.taus))).round().long().tolist()
    # (steps, rows, columns), with a video's frames side by side
    maps = grid.places(found.token_change[:, 0]).transpose(1, 2).flatten(2)
    bottom.suptitle("change of the first picture's tokens, mean over blocks")
    for axes, step in zip(bottom.subplots(1, len(steps)), steps):
        axes.imshow(maps[step], cmap="viridis", vmin=0, vmax=float(maps[steps].max()))
        axes.set(xticks=[], yticks=[], title=f"step {step + 1}")
    figure.savefig(file, format="png")
