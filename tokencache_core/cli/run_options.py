"""The options of commands that draw runs of a DiT to learn from."""

from __future__ import annotations

import argparse

from ..dit.model import DiT
from ..dit.random_runs import DrawnRuns, labels_apart
from ..sampling.noise_schedule import TRAIN_STEPS
from ..sampling.samplers import SOLVERS
from ..training.distributed import Processes
from .checks import number_in, whole_number
from .sigma_options import add_sigma_arguments, sigma_schedule_of


def add_run_arguments(parser: argparse._ActionsContainer, least_steps: int) -> None:
    parser.add_argument("--labels", metavar="LIST", help="class indices or names (default: all but every fourth)")
    parser.add_argument("--steps", type=whole_number(least_steps, TRAIN_STEPS), default=50, metavar="N", help="denoise steps")
    parser.add_argument("--cfg", type=number_in(0, 100), default=4.0, metavar="SCALE", help="classifier-free guidance")
    parser.add_argument("--solver", choices=SOLVERS, default="ddim", help="sampler")
    add_sigma_arguments(parser)


def runs_of(
    args: argparse.Namespace, model: DiT, names: tuple[str, ...] | None, batch: int, processes: Processes = Processes(),
) -> DrawnRuns:
    """The runs that the options describe, `batch` samples of each; ValueError for classes that the model does not have, and CommandError for sigmas that there are not."""
    training, measuring = labels_apart(args.labels, model.config.num_classes, names)
    part = (processes.rank, processes.count)
    return DrawnRuns(
        model, training, measuring, batch=batch, steps=args.steps, cfg=args.cfg, solver=args.solver, schedule=sigma_schedule_of(args, args.steps), part=part,
    )
