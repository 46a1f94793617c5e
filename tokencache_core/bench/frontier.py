"""A picture of every method's frontier: each measure of likeness against the speed-up by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .duels import OUR_METHODS, frontier, sweeps
from .rows import Row

MEASURES = {
    "psnr_db": "PSNR against the full run (dB)",
    "ssim": "SSIM against the full run",
    "psnr_exact_db": "PSNR against the exact solution (dB)",
    "frechet_from_full": "Frechet distance from the full run",
}

MARKERS = ".^vs"  # each group of ten lines has another, because colours repeat after ten


def draw_frontier(file: Path, rows: Sequence[Row], title: str) -> None:
    """Write a picture with one panel per available measure and one line per sweep; ours are thick."""
    from matplotlib.figure import Figure  # in the `bench` extra: nothing else needs it

    found = {name: frontier(sweep) for name, sweep in sweeps(rows).items()}
    taken = [
        name for name in MEASURES if any(getattr(row, name) is not None for sweep in found.values() for row in sweep)
    ] or ["psnr_db"]
    columns = min(2, len(taken))
    figure = Figure(figsize=(6.5 * columns, 4.6 * -(-len(taken) // columns)), dpi=120, layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(-(-len(taken) // columns), columns, squeeze=False).flatten()
    for panel, measure in zip(panels, taken):
        panel.set(xlabel="speed-up by the clock", ylabel=MEASURES[measure])
        for index, (name, sweep) in enumerate(found.items()):
            points = [(row.speedup, value) for row in sweep if (value := getattr(row, measure)) is not None]
            ours = name in OUR_METHODS
            panel.plot(
                *zip(*points) if points else ([], []),
                label=name,
                color=f"C{index % 10}",
                zorder=3 if ours else 2,
                linewidth=2.4 if ours else 1.1,
                linestyle="-" if ours else "--",
                marker="o" if ours else MARKERS[index // 10 % len(MARKERS)],
                markersize=5,
            )
        panel.grid(alpha=0.3)
    for panel in panels[len(taken) :]:
        panel.axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(file, format="png")
