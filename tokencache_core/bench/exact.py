"""Checks whether a better solver with fewer full steps comes as close to the exact solution as the cache, in the same
time.

The purpose of the cache is to give the full run's own picture sooner. But a run of a few steps of a simple solver is
itself far from the solution that it approximates. If any good picture will do, the time may be better spent on another
solver, and readers of the benchmark should know that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .duels import FEWER_STEPS, OUR_METHODS, sweeps, value_at
from .rows import Row


@dataclass(frozen=True)
class NearerSolver:
    """A sweep of fewer steps that, at one speed-up, comes at least as close to the exact solution as our `method`.

    solver: the name of its sweep.
    ours_db, theirs_db: PSNR against the exact solution.
    """

    speedup: float
    method: str
    solver: str
    ours_db: float
    theirs_db: float


def nearer_solvers(rows: Sequence[Row], speedups: Sequence[float]) -> list[NearerSolver]:
    """For each of our methods and speed-ups, the closest sweep of fewer steps, if it is at least as close as ours.

    Values are interpolated between the settings of a sweep.
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


def sentence(rows: Sequence[Row], speedups: Sequence[float]) -> str:
    """What a user should know about closer solvers; empty if there is none."""
    found = nearer_solvers(rows, speedups)
    if not found:
        return ""
    places = ", ".join(
        f"at {one.speedup:g}x {one.solver} ({one.theirs_db:.1f} dB) as close as {one.method} ({one.ours_db:.1f} dB)"
        for one in found
    )
    full = next(
        (f", from which the full run itself is {row.psnr_exact_db:.1f} dB" for row in rows if row.method == "full"), ""
    )
    return (
        f"In the same time fewer full steps of a better solver come as close to the exact solution{full}, or closer: "
        f"{places}; where the full run's own "
        "picture is not what matters, take those."
    )
