"""The options of commands that train: what, how, and from which runs."""

from __future__ import annotations

import argparse

from ..predictor.token_scores import KINDS
from ..runs.run import HELD_OUT_SEEDS
from ..settings import MAX_REACH, CacheSettings
from ..training.plan import LOSSES, PRECISIONS, TrainingPlan
from .checks import number_in, whole_number
from .run_options import add_run_arguments


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    runs = parser.add_argument_group("the runs to learn from")
    add_run_arguments(runs, least_steps=4)
    runs.add_argument("--batch", type=whole_number(1), default=4, metavar="N", help="samples a run")
    cache = parser.add_argument_group("cache")
    cache.add_argument("--cache-ratio", type=number_in(0, 1), default=1.0, metavar="R", help="r: share that P-steps reuse")
    cache.add_argument("--order", type=int, choices=(0, 1, 2), default=2, help="0 reuses updates, 1 and 2 forecast them")
    cache.add_argument("--reach", type=number_in(0, MAX_REACH), default=CacheSettings().reach, metavar="X", help="forecasts are taken X times as far from the last I-step as the P-step is from it")
    cache.add_argument("--interval", type=whole_number(2), default=4, metavar="N", help="every N-th step is an I-step")
    cache.add_argument("--last-blocks", type=whole_number(0), default=0, metavar="K", help="final blocks that run on P-steps, with LoRA")
    cache.add_argument("--rank", type=whole_number(1), default=16, metavar="N", help="of the adapters")
    cache.add_argument("--predictor", choices=KINDS, default="", help="learn which tokens P-steps compute; needs --cache-ratio below 1")
    cache.add_argument("--every-step", action="store_true", help="predict the scores on every P-step, as the paper does, not once a window")
    cache.add_argument("--forecast-hidden", type=whole_number(0), default=96, metavar="N", help="width of the learned forecast's network; 0: the plain forecast")
    learning = parser.add_argument_group("learning")
    learning.add_argument("--loss", choices=LOSSES, default="run", help="where runs end, through all their steps; how far they have strayed after each window, with less memory; or each P-step's own error, as the paper trains")
    learning.add_argument("--soft", action="store_true", help="mix by the scores themselves, as the paper trains")
    learning.add_argument("--sparsity", type=number_in(0, 1e3), default=0.0, metavar="LAMBDA", help="weight of the mean score in the loss")
    learning.add_argument("--learning-rate", type=number_in(0, 1), default=1e-3, metavar="R", help="Adam's")
    learning.add_argument("--accumulate", type=whole_number(1), default=1, metavar="N", help="losses averaged for one update")
    learning.add_argument("--precision", choices=PRECISIONS, default="fp32", help="bf16: mixed precision, for GPUs")
    learning.add_argument("--checkpointing", action="store_true", help="less memory, more time: run the last blocks again for their gradient")
    learning.add_argument("--seed", type=whole_number(0, HELD_OUT_SEEDS // 2), default=0, metavar="N", help="of noise and adapters")


def plan_of(args: argparse.Namespace) -> TrainingPlan:
    """ValueError for choices that cannot be trained."""
    return TrainingPlan(
        CacheSettings(cache_ratio=args.cache_ratio, order=args.order, last_blocks=args.last_blocks, reach=args.reach),
        interval=args.interval, rank=args.rank, forecast_hidden=args.forecast_hidden, predictor=args.predictor,
        sparsity=args.sparsity, soft=args.soft, every_step=args.every_step, loss=args.loss, learning_rate=args.learning_rate,
        accumulate=args.accumulate, precision=args.precision, checkpointing=args.checkpointing, seed=args.seed,
    )
