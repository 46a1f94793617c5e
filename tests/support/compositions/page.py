"""docs/compatibility.md: the verdicts on all cells of the composition matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from comfyui_version import __version__ as HOST

from .cell import CELLS, Cell
from .verdict import FAULT, KINDS, WARNS, WORKS, Verdict

KEPT_FROM = "\n## Newer hosts\n"  # from here on the page is not of the matrix, and stays as it is


def counts(verdicts: Mapping[str, Verdict]) -> dict[str, int]:
    """The number of cells of each kind that occurs."""
    kinds = [verdict.kind for verdict in verdicts.values()]
    return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def page(verdicts: Mapping[str, Verdict], before: str = "") -> str:
    """The page. before: its text until now, for the end that is kept."""
    subjects = dict.fromkeys(cell.subject for cell in CELLS)
    lines = [
        "# What it works together with",
        "",
        f"Apply TokenCache beside what else ComfyUI {HOST} offers, in the real host on the CPU, with tiny models, of "
        "which only the reference DiT has trained weights. Written by `python scripts/compatibility.py`; a sample of "
        "it is a test (`tests/host/test_compositions.py`). Faults, hostile files and long runs: "
        "[robustness.md](robustness.md).",
        "",
        "Each cell is sampled plainly, at `cache_ratio` 0, by default, and plainly with as many steps as the cached "
        "run computed. At 0 the samples must be the plain run's, bit for bit. Evaluations and the share of the blocks "
        "that computed are counted beside the report, which must agree. Afterwards nothing may be left on the model.",
        "",
        "| verdict | cells | means |",
        "|---|---|---|",
        *(f"| {kind} | {count} | {KINDS[kind]} |" for kind, count in counts(verdicts).items()),
        "",
        f"{len(verdicts)} cells, {counts(verdicts).get(FAULT, 0)} of them wrong without a word.",
        "",
        "*compute*: the share of the blocks' work that was done. *off*: the distance of the cached samples from the "
        "plain ones, relative to their norm; *fewer*: the same of the plain run with fewer steps.",
    ]
    for subject in subjects:
        cells = [cell for cell in CELLS if cell.subject == subject]
        lines += ["", f"## {subject.capitalize()}", ""]
        lines += _table(cells, verdicts)
    _, heading, kept = before.partition(KEPT_FROM)
    return "\n".join([*lines, ""]) + heading + kept


def verdicts_on(text: str) -> dict[str, Verdict]:
    """The verdicts that a page shows, by the cells' names; figures as they are rounded there."""
    found: dict[str, Verdict] = {}
    by_row = {(cell.subject.capitalize(), cell.what, cell.model): cell.name for cell in CELLS}
    subject = ""
    for line in text.partition(KEPT_FROM)[0].splitlines():
        subject = line.removeprefix("## ") if line.startswith("## ") else subject
        row = [part.strip() for part in line.strip("|").split("|")]
        if len(row) == 7 and (name := by_row.get((subject, row[0], row[1]))) is not None:
            figures = {}
            if row[3]:
                figures = {"compute": int(row[3].rstrip("%")) / 100, "error": float(row[4]), "fewer": float(row[5])}
            found[name] = Verdict(row[2], row[6], **figures)
    return found


def _table(cells: Iterable[Cell], verdicts: Mapping[str, Verdict]) -> list[str]:
    rows = ["| | model | verdict | compute | off | fewer | reason |", "|---|---|---|---|---|---|---|"]
    for cell in cells:
        found = verdicts[cell.name]
        figures = (
            f"{found.compute:.0%} | {found.error:.3f} | {found.fewer:.3f}" if found.kind in (WORKS, WARNS) else " | | "
        )
        rows.append(f"| {cell.what} | {cell.model} | {found.kind} | {figures} | {found.reason.replace('|', '/')} |")
    return rows
