"""The benchmark page (docs/benchmarks.md), written only from the benchmarks' JSON files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..sampling.sigma_schedule import SigmaSchedule
from .duels import OUR_METHODS, duels, sweeps, value_at
from .exact import sentence
from .output import setting_text
from .rows import Row

_DIGITS = {"psnr_db": 1, "ssim": 4, "psnr_exact_db": 1, "frechet_from_full": 4, "frechet": 4}
_HEADS = {
    "psnr_db": "PSNR",
    "ssim": "SSIM",
    "psnr_exact_db": "exact",
    "frechet_from_full": "Frechet from full",
    "frechet": "from the data",
}


def page(documents: Sequence[dict[str, Any]], command: str, pictures: Sequence[str | None]) -> str:
    """The page in Markdown.

    documents: contents of the JSON files.
    command: that writes the page.
    pictures: the path, relative to the page, of each document's picture of frontiers; None if it has none.
    """
    has_pictures = any(content["rows"] for content in documents)
    lines = [
        "# Benchmarks" if has_pictures else "# The time of a step at the shapes of released models",
        "",
        f"Written by `{command}` from what the commands named below have measured; not by hand.",
        "",
    ]
    for content, picture in zip(documents, pictures, strict=True):
        if rows := [Row.from_json(row) for row in content["rows"]]:
            lines += [*_model(content), "", f"![Frontiers of all methods]({picture})", ""]
            speedups = content["protocol"]["compared"]
            lines += [*_at_speedups(rows, speedups), "", *_at_compute(rows, speedups), ""]
            lines += [*_beats(rows, speedups), "", *_all_rows(rows), ""]
        if content["shape_rows"]:
            lines += [*_shapes(content), ""]
    return "\n".join(lines)


def _machine(content: dict[str, Any]) -> str:
    threads = content["threads"]
    return f"{content['device']}, {threads} thread{'' if threads == 1 else 's'}, torch {content['torch']}"


def _model(content: dict[str, Any]) -> Iterator[str]:
    model, protocol = content["model"], content["protocol"]
    schedule = SigmaSchedule(protocol["schedule"], protocol["shift"])
    yield f"## {model['file']}, {protocol['steps']} steps"
    yield ""
    yield f"`{protocol['command']}`"
    yield ""
    yield (
        f"{protocol['samples']} samples of {protocol['steps']} steps of {protocol['solver']} on the schedule "
        f"{schedule}, guidance {protocol['cfg']:g}; "
        f"{protocol['classes']}. All methods in turn in one process, on {_machine(content)}. Seconds and speed-ups are "
        f"medians of {protocol['repeats']} runs, spread is the difference of the largest speed-up and the smallest; "
        f'speed-up: {protocol["clock"]}. Likeness: {protocol["quality"]}, against the full run; "exact" is '
        f"{protocol['exact']}."
    )
    if protocol.get("peers"):
        yield ""
        yield "Others: " + "; ".join(f"{name} ({source})" for name, source in protocol["peers"].items()) + "."


def _at_speedups(rows: Sequence[Row], speedups: Sequence[float]) -> Iterator[str]:
    """Every method's frontier, interpolated between its settings."""
    yield "### At equal speed-up by the clock"
    yield ""
    yield (
        "Each method's frontier of PSNR, linear between its two settings on either side, of which the other measures "
        "are read off, too; "
        "- outside of its sweep, which ends where its settings do.\n"
    )
    yield from _readings(rows, speedups)


def _at_compute(rows: Sequence[Row], speedups: Sequence[float]) -> Iterator[str]:
    yield "### At equal share of the compute"
    yield ""
    yield (
        "The same, with 1 / compute in the place of the speed-up by the clock, as if nothing but block-tokens took "
        "time.\n"
    )
    yield from _readings([replace(row, speedup=1 / row.compute) for row in rows], speedups)


def _readings(rows: Sequence[Row], speedups: Sequence[float]) -> Iterator[str]:
    measures = [measure for measure in _DIGITS if any(getattr(row, measure) is not None for row in rows)]
    heads = "".join(f" {_HEADS[measure]} at {speedup:g}x |" for speedup in speedups for measure in measures)
    yield f"| method |{heads}"
    yield "|---|" + "---|" * len(measures) * len(speedups)
    found = sweeps(rows)

    def order(name: str) -> tuple:
        return name not in OUR_METHODS, -(value_at(found[name], speedups[len(speedups) // 2]) or 0)

    for name in sorted(found, key=order):
        bold = "**" if name in OUR_METHODS else ""
        cells = "".join(
            f" {_number(value_at(found[name], speedup, measure), _DIGITS[measure])} |"
            for speedup in speedups
            for measure in measures
        )
        yield f"| {bold}{name}{bold} |{cells}"


def _beats(rows: Sequence[Row], speedups: Sequence[float]) -> Iterator[str]:
    """All duels of our methods, with the spread of repeats in dB."""
    yield "### Who wins\n"
    yield "| at | ours | against | ours, dB | theirs, dB | margin | spread | verdict |"
    yield "|---|---|---|---|---|---|---|---|"
    for duel in duels(rows, speedups):
        yield (
            f"| {duel.speedup:g}x | {duel.method} | {duel.against} | {_number(duel.ours_db, 1)} | "
            f"{_number(duel.theirs_db, 1)} | "
            f"{_number(duel.margin_db, 1, '+')} | {_number(duel.spread_db, 1)} | {duel.verdict} |"
        )
    if known := sentence(rows, speedups):
        yield f"\n{known}"


def _all_rows(rows: Sequence[Row]) -> Iterator[str]:
    yield "### Every setting\n"
    frechet = any(row.frechet is not None for row in rows)
    clips = any(row.flicker is not None for row in rows)
    yield (
        "| method | setting | seconds | speed-up | spread | compute | PSNR | SSIM | exact |"
        + (" flicker |" if clips else "")
        + (" Frechet from full | times the full run's |" if frechet else "")
        + " note |"
    )
    yield "|---|---|---|---|---|---|---|---|---|" + ("---|" if clips else "") + ("---|---|" if frechet else "") + "---|"
    for row in rows:
        distances = f" {_number(row.flicker, 4)} |" if clips else ""
        distances += f" {_number(row.frechet_from_full, 4)} | {_interval(row.frechet_times_full)} |" if frechet else ""
        yield (
            f"| {row.method} | {setting_text(row.settings)} | {row.seconds:.2f} | {row.speedup:.2f}x | "
            f"{row.speedup_spread:.2f} | {row.compute:.3f} | "
            f"{_number(row.psnr_db, 1)} | {_number(row.ssim, 4)} | {_number(row.psnr_exact_db, 1)} |{distances} "
            f"{row.note} |"
        )


def _shapes(content: dict[str, Any]) -> Iterator[str]:
    shape = content["shape_rows"][0]["shape"]
    yield f"## Time alone, at the shape of {shape}\n"
    yield f"`{content['protocol']['command']}`\n"
    yield (
        f"Random weights, {content['protocol']['repeats']} repeats, on {_machine(content)}. 1.00 is a P-step that "
        "takes its share of the block-tokens and no more.\n"
    )
    if shape != content["model"]["shape"]:
        yield (
            "A few blocks at the true width: what the whole model takes is an extrapolation, in which the parts "
            "outside of blocks weigh less than here.\n"
        )
    yield (
        "| type | rows | tokens | context | compute | unpatched step | I-step | P-step | P-step / (compute x I-step) "
        "| / (compute x unpatched) | a predictor's look |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for row in content["shape_rows"]:
        settings = row["settings"]
        tokens = f"r {settings['cache_ratio']:g}, K {settings['last_blocks']}, {settings['shares']}"
        yield (
            f"| {row['dtype']} | {row['batch']} | {tokens} | {settings['context']} | {row['compute']:.3f} | "
            f"{row['full_seconds']:.3f} s | "
            f"{row['i_step_seconds']:.3f} s | {row['p_step_seconds']:.3f} s | {row['overhead']:.2f} | "
            f"{row['overhead_to_full']:.2f} | "
            f"{', '.join(f'{kind} {seconds:.4f} s' for kind, seconds in row['predictor_seconds'].items())} |"
        )


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def _interval(values: Sequence[float] | None) -> str:
    return "-" if values is None else f"{values[0]:.4f} ({values[1]:.4f} to {values[2]:.4f})"
