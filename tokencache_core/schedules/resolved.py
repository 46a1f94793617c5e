"""What a schedule comes to in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .automatic import AutomaticSchedule
from .schedule import ErrorBoundSchedule, Schedule, SpeedupSchedule


@dataclass(frozen=True)
class ResolvedSchedule:
    """i_steps: the I-steps that are known before the run. error_bound: by which it finds the others; None: there are
    none. note: for the report.
    """

    i_steps: frozenset[int]
    error_bound: float | None = None
    note: str = ""


def resolved(schedule: Schedule, taus: Sequence[float], p_step: float) -> ResolvedSchedule:
    """Of a run at the times `taus` whose P-steps compute the share `p_step` of a whole step."""
    note = ""
    if isinstance(schedule, AutomaticSchedule):
        schedule = schedule.placed(taus)
    if isinstance(schedule, SpeedupSchedule):
        schedule = schedule.costing(p_step)
        note = schedule.out_of_reach(len(taus))
    bound = schedule.bound if isinstance(schedule, ErrorBoundSchedule) else None
    return ResolvedSchedule(schedule.i_steps(taus), bound, note)
