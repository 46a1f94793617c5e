"""Who wins at equal time: the frontier of each method's sweep is interpolated in (speed-up, dB) to the same speed-up.

Quality is deterministic, only the clock is noisy: the spread of the repeats' speed-ups is turned into decibels by the
sweep's slope. A margin counts if it is larger than those of both sweeps together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .rows import Row

TUNED, CALIBRATED, FEWER_STEPS = "tuned", "calibrated", "fewer-steps"
OUR_METHODS = ("tokencache", "predictor", TUNED, CALIBRATED)
SPEEDUPS = (2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Quality:
    """A sweep at one speed-up. spread_db: what the spread of repeats there is worth."""

    db: float
    spread_db: float


@dataclass(frozen=True)
class Duel:
    """One of our sweeps against another at one speed-up; dB against `full`, None where a sweep does not reach it."""

    speedup: float
    method: str
    against: str
    ours_db: float | None
    theirs_db: float | None
    margin_db: float | None
    spread_db: float | None
    verdict: str  # "wins", "loses", "within the spread of repeats" or "outside of the sweep of <method>"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        if self.margin_db is None:
            return f"{self.speedup:g}x, {self.method} against {self.against}: {self.verdict}"
        return (
            f"{self.speedup:g}x, {self.method} against {self.against}: {self.verdict}, "
            f"{self.ours_db:.1f} against {self.theirs_db:.1f} dB "
            f"({self.margin_db:+.1f}; the repeats' spread is worth {self.spread_db:.1f})"
        )


def sweep_name(row: Row) -> str:
    """The method, with the order where one method sweeps several."""
    return f"{row.method} order {row.settings['order']}" if row.method == "forecast" else row.method


def sweeps(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each sweep, the least speed-up first; `full` is none."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.psnr_db is not None:
            found.setdefault(sweep_name(row), []).append(row)
    return {name: sorted(sweep, key=lambda row: row.speedup) for name, sweep in found.items()}


def frontier(sweep: Sequence[Row]) -> list[Row]:
    """The rows of a sweep that no faster one of its rows beats in likeness, the least speed-up first."""
    best: list[Row] = []
    for row in sorted(sweep, key=lambda row: (-row.speedup, -row.psnr_db)):
        if not best or row.psnr_db >= best[-1].psnr_db:
            best.append(row)
    return best[::-1]


def around(sweep: Sequence[Row], speedup: float) -> tuple[Row, Row] | None:
    """The two rows of the sweep's frontier between which `speedup` lies, None outside of the sweep; twice the same
    where a faster one beats all.
    """
    best = frontier(sweep)
    if best and min(row.speedup for row in sweep) <= speedup <= best[0].speedup:
        return best[0], best[0]
    return next(
        ((left, right) for left, right in zip(best, best[1:]) if left.speedup <= speedup <= right.speedup), None
    )


def value_at(sweep: Sequence[Row], speedup: float, measure: str = "psnr_db") -> float | None:
    """A measure of the sweep's frontier, linear between two settings; None outside of the sweep, or where it was not
    taken.
    """
    rows = around(sweep, speedup)
    if rows is None or None in (values := [getattr(row, measure) for row in rows]):
        return None
    left, right = rows
    gap = right.speedup - left.speedup
    return values[0] + ((values[1] - values[0]) * (speedup - left.speedup) / gap if gap else 0.0)


def quality_at(sweep: Sequence[Row], speedup: float) -> Quality | None:
    rows = around(sweep, speedup)
    if rows is None:
        return None
    left, right = rows
    gap = right.speedup - left.speedup
    slope = (right.psnr_db - left.psnr_db) / gap if gap else 0.0
    wobble = max(row.speedup_spread / row.speedup for row in rows) * speedup
    return Quality(value_at(sweep, speedup), abs(slope) * wobble)


def duels(rows: Sequence[Row], speedups: Sequence[float] = SPEEDUPS) -> list[Duel]:
    """Each of our sweeps that was measured, OUR_METHODS, against every other sweep; presets, which may be few, where
    they reach.
    """
    found = sweeps(rows)
    return [
        _duel(speedup, ours, found[ours], name, theirs)
        for ours in OUR_METHODS
        if ours in found
        for speedup in speedups
        if ours != TUNED or around(found[ours], speedup)
        for name, theirs in found.items()
        if name != ours
    ]


def _duel(speedup: float, method: str, ours: Sequence[Row], against: str, theirs: Sequence[Row]) -> Duel:
    mine, other = quality_at(ours, speedup), quality_at(theirs, speedup)
    if mine is None or other is None:
        missing = method if mine is None else against
        return Duel(
            speedup,
            method,
            against,
            mine and mine.db,
            other and other.db,
            None,
            None,
            f"outside of the sweep of {missing}",
        )
    margin, spread = mine.db - other.db, mine.spread_db + other.spread_db
    verdict = "within the spread of repeats" if abs(margin) <= spread else "wins" if margin > 0 else "loses"
    return Duel(speedup, method, against, mine.db, other.db, margin, spread, verdict)
