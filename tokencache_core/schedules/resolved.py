"""A schedule resolved for one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .automatic import AutomaticSchedule
from .schedule import ErrorBoundSchedule, Schedule, SpeedupSchedule


@dataclass(frozen=True)
class ResolvedSchedule:
    """A schedule resolved for one run.

    i_steps: the I-steps known before the run.
    error_bound: the bound by which further I-steps are placed during the run; None: there are none.
    note: for the report; may be empty.
    """

    i_steps: frozenset[int]
    error_bound: float | None = None
    note: str = ""


def resolved(schedule: Schedule, taus: Sequence[float], p_step: float) -> ResolvedSchedule:
    """Resolve a schedule for one run.

    taus: noise times of the run's steps, falling.
    p_step: the cost of a P-step, as a share of a whole step.
    """
    note = ""
    if isinstance(schedule, AutomaticSchedule):
        schedule = schedule.placed(taus)
    if isinstance(schedule, SpeedupSchedule):
        schedule = schedule.costing(p_step)
        note = schedule.out_of_reach(len(taus))
    bound = schedule.bound if isinstance(schedule, ErrorBoundSchedule) else None
    return ResolvedSchedule(schedule.i_steps(taus), bound, note)
