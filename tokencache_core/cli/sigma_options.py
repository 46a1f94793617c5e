"""The options that say at which sigmas a command samples."""

from __future__ import annotations

import argparse

from ..sampling.sigma_schedule import FLOW, SCHEDULES, SigmaSchedule
from .checks import CommandError


def add_sigma_arguments(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--schedule", choices=SCHEDULES, default=SigmaSchedule.name, help=f"of sigmas: ddpm is ComfyUI's simple, {FLOW} a flow model's, the others ComfyUI's of their names",
    )
    parser.add_argument("--shift", type=float, metavar="X", help=f"with --schedule {FLOW}: more of the steps at high noise, as 3 for pictures (default: 1, none)")


def sigma_schedule_of(args: argparse.Namespace, steps: int) -> SigmaSchedule:
    """CommandError for a shift that does not go with the schedule, and where that does not have so many steps."""
    try:
        schedule = SigmaSchedule(args.schedule, args.shift)
    except ValueError as error:
        raise CommandError(f"--shift {args.shift:g}: {error}") from None
    try:
        schedule.sigmas(steps)
    except ValueError as error:
        raise CommandError(f"--schedule {schedule.name}: {error}") from None
    return schedule
