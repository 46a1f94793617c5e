"""Duels at equal time: the frontiers of two methods' sweeps, interpolated in (speed-up, dB) to the same speed-up.

Quality is deterministic, only the clock is noisy: the spread of the repeats' speed-ups is converted to decibels by the
sweep's slope. A margin counts if it is larger than the spreads of both sweeps together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .rows import Row

TUNED, CALIBRATED, FEWER_STEPS = "tuned", "calibrated", "fewer-steps"
OUR_METHODS = ("tokencache", "predictor", TUNED, CALIBRATED)


@dataclass(frozen=True)
class Quality:
    """The quality of a sweep at one speed-up, in dB. spread_db: the spread of repeats there, converted to dB."""

    db: float
    spread_db: float


@dataclass(frozen=True)
class Duel:
    """One of our sweeps against another at one speed-up.

    ours_db, theirs_db: PSNR against `full`; None if the sweep does not reach the speed-up.
    margin_db: ours minus theirs.
    spread_db: of both sweeps together.
    """

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
    """The name of the row's sweep: the method, with the order if the method has one sweep per order."""
    return f"{row.method} order {row.settings['order']}" if row.method == "forecast" else row.method


def sweeps(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each sweep by its name, the smallest speed-up first; `full` is not a sweep."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.psnr_db is not None:
            found.setdefault(sweep_name(row), []).append(row)
    return {name: sorted(sweep, key=lambda row: row.speedup) for name, sweep in found.items()}


def frontier(sweep: Sequence[Row]) -> list[Row]:
    """The rows of a sweep that no faster row of it beats in likeness, the smallest speed-up first."""
    best: list[Row] = []
    for row in sorted(sweep, key=lambda row: (-row.speedup, -row.quality_db)):
        if not best or row.quality_db >= best[-1].quality_db:
            best.append(row)
    return best[::-1]


def around(sweep: Sequence[Row], speedup: float) -> tuple[Row, Row] | None:
    """The two rows of the sweep's frontier between which `speedup` lies; None outside the sweep.

    Where a faster row beats all rows near `speedup`, both are this row.
    """
    best = frontier(sweep)
    if best and min(row.speedup for row in sweep) <= speedup <= best[0].speedup:
        return best[0], best[0]
    return next(
        ((left, right) for left, right in zip(best, best[1:]) if left.speedup <= speedup <= right.speedup), None
    )


def value_at(sweep: Sequence[Row], speedup: float, measure: str = "psnr_db") -> float | None:
    """A measure (a field of Row) on the sweep's frontier, linear between two settings; None outside the sweep, or where
    it was not measured.
    """
    rows = around(sweep, speedup)
    if rows is None:
        return None
    left, right = rows
    at_left, at_right = getattr(left, measure), getattr(right, measure)
    if at_left is None or at_right is None:
        return None
    gap = right.speedup - left.speedup
    return at_left + ((at_right - at_left) * (speedup - left.speedup) / gap if gap else 0.0)


def quality_at(sweep: Sequence[Row], speedup: float) -> Quality | None:
    """The quality of the sweep's frontier at `speedup`; None outside the sweep."""
    rows, db = around(sweep, speedup), value_at(sweep, speedup)
    if rows is None or db is None:
        return None
    left, right = rows
    gap = right.speedup - left.speedup
    slope = (right.quality_db - left.quality_db) / gap if gap else 0.0
    spread = max(row.speedup_spread / row.speedup for row in rows) * speedup
    return Quality(db, abs(slope) * spread)


def duels(rows: Sequence[Row], speedups: Sequence[float]) -> list[Duel]:
    """The duels of each measured sweep of OUR_METHODS with every other sweep, at each of the speed-ups.

    The sweep of presets may have few rows: it has duels only at speed-ups that it reaches.
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
            None if mine is None else mine.db,
            None if other is None else other.db,
            None,
            None,
            f"outside of the sweep of {missing}",
        )
    margin, spread = mine.db - other.db, mine.spread_db + other.spread_db
    verdict = "within the spread of repeats" if abs(margin) <= spread else "wins" if margin > 0 else "loses"
    return Duel(speedup, method, against, mine.db, other.db, margin, spread, verdict)
