"""A schedule resolved for one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .automatic import AutomaticSchedule, CalibratedSchedule
from .run_simulator import USUAL_FADING, Fading
from .schedule import CountSchedule, ErrorBoundSchedule, ExplicitSchedule, PercentileSchedule, Schedule, SpeedupSchedule

_COUNTED = (AutomaticSchedule, CalibratedSchedule, CountSchedule, PercentileSchedule)


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


def resolved(
    schedule: Schedule, taus: Sequence[float], p_step: float, fading: Fading = USUAL_FADING
) -> ResolvedSchedule:
    """Resolve a schedule for one run.

    taus: noise times of the run's steps. Where they rise, as in unsampling and in restarts, another run begins: each
        stretch in which they fall has its own I-steps, and its share of their number.
    p_step: the cost of a P-step, as a share of a full step.
    fading: of the model that is run.
    """
    if isinstance(schedule, ExplicitSchedule):
        return ResolvedSchedule(schedule.i_steps(taus))
    starts = [0, *(step for step in range(1, len(taus)) if taus[step] > taus[step - 1])]
    parts = [taus[start:end] for start, end in zip(starts, [*starts[1:], len(taus)])]
    schedule = of_model(schedule, fading)
    found = [_of_falling(_part_of(schedule, len(part) / len(taus)), part, p_step) for part in parts]
    return ResolvedSchedule(
        frozenset(start + step for start, each in zip(starts, found) for step in each.i_steps),
        found[0].error_bound,
        next((each.note for each in found if each.note), ""),
    )


def of_model(schedule: Schedule, fading: Fading) -> Schedule:
    """The schedule for a model on which errors fade as `fading` says: where known models place the
    I-steps, they are asked for such a model.
    """
    if isinstance(schedule, (AutomaticSchedule, CountSchedule)):
        return replace(schedule, fading=fading)
    if isinstance(schedule, SpeedupSchedule):
        placed = schedule.placed

        def for_it(count: int) -> Schedule:
            return of_model(placed(count), fading)

        return replace(schedule, placed=for_it)
    return schedule


def _part_of(schedule: Schedule, share: float) -> Schedule:
    """The schedule with a share of its number of I-steps, if it has one."""
    if share == 1 or not isinstance(schedule, _COUNTED) or not schedule.count:
        return schedule
    return replace(schedule, count=max(1, round(share * schedule.count)))


def _of_falling(schedule: Schedule, taus: Sequence[float], p_step: float) -> ResolvedSchedule:
    """Resolve a schedule for noise times that fall throughout."""
    note = ""
    if isinstance(schedule, AutomaticSchedule):
        schedule = schedule.placed(taus)
    if isinstance(schedule, SpeedupSchedule):
        schedule = schedule.costing(p_step)
        note = schedule.out_of_reach(len(taus))
    bound = schedule.bound if isinstance(schedule, ErrorBoundSchedule) else None
    return ResolvedSchedule(schedule.i_steps(taus), bound, note)
