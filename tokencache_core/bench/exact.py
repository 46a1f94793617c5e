"""Whether a better solver with fewer whole steps comes as near to the exact solution as the cache, in the same time.

The cache is there to give the full run's own picture sooner. A run of few steps of a simple solver is itself far from
the solution that it approximates, and where any good picture will do, that time may be better spent: whoever reads the
benchmark should know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .duels import FEWER_STEPS, OUR_METHODS, SPEEDUPS, sweeps, value_at
from .rows import Row


@dataclass(frozen=True)
class NearerSolver:
    """At one speed-up the sweep of fewer steps that comes as near as `method` of ours or nearer; dB against the exact
    solution.
    """

    speedup: float
    method: str
    solver: str  # by its sweep's name
    ours_db: float
    theirs_db: float


def nearer_solvers(rows: Sequence[Row], speedups: Sequence[float] = SPEEDUPS) -> list[NearerSolver]:
    """The nearest sweep of fewer steps at each speed-up at which, read off between its settings, it is no farther than
    each of ours.
    """
    found = sweeps([replace(row, psnr_db=row.psnr_exact_db) for row in rows if row.psnr_db is not None])
    nearer = []
    for method in OUR_METHODS:
        for speedup in speedups if method in found else ():
            ours = value_at(found[method], speedup)
            read = {name: value_at(sweep, speedup) for name, sweep in found.items() if name.startswith(FEWER_STEPS)}
            solvers = {name: db for name, db in read.items() if db is not None}
            if ours is None or not solvers:
                continue
            name = max(solvers, key=solvers.__getitem__)
            if solvers[name] >= ours:
                nearer.append(NearerSolver(speedup, method, name, ours, solvers[name]))
    return nearer


def sentence(rows: Sequence[Row]) -> str:
    """What a user should know of it; empty where no solver comes as near."""
    found = nearer_solvers(rows)
    if not found:
        return ""
    places = ", ".join(
        f"at {one.speedup:g}x {one.solver} ({one.theirs_db:.1f} dB) as near as {one.method} ({one.ours_db:.1f} dB)"
        for one in found
    )
    full = next(
        (f", from which the full run itself is {row.psnr_exact_db:.1f} dB" for row in rows if row.method == "full"), ""
    )
    return (
        f"In the same time fewer whole steps of a better solver come as near to the exact solution{full}, or nearer: "
        f"{places}; where the full run's own "
        "picture is not what matters, take those."
    )
