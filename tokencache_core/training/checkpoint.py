"""The saved state of an unfinished training: all that `Training` holds, in one `.safetensors`, so that it resumes
exactly.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..files.error_line import error_line
from ..files.whole_file import whole_file
from ..predictor.trained_cache import TrainingPoint
from .trainer import Best, Training

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # Adam's
_KEPT = 5  # tensors of each weight in a state: itself, its average, Adam's two moments, the best so far
_LEAST_FREE = 2**20  # bytes for the rest of a state, and for what else is written there


class TrainingStateError(ValueError):
    """A training state cannot be resumed or written. The message is one line with the remedy."""


def check_space(training: Training, path: Path) -> None:
    """TrainingStateError unless there is room for two states at `path`: a new one is written beside the old."""
    weights = sum(weight.nbytes for weight in training.parameters)
    needed, free = 2 * _KEPT * weights + _LEAST_FREE, shutil.disk_usage(path.parent).free
    if free < needed:
        raise TrainingStateError(
            f"{path}: the disk has {free / 2**20:,.0f} MB free, but what a training keeps there may take "
            f"{needed / 2**20:,.0f} MB; free some, or train to another folder"
        )


def save_state(training: Training, path: Path) -> None:
    """Write the state, completely or not at all; TrainingStateError if it cannot be written."""
    tensors = {}
    optimizer = training.optimizer.state
    for index, (weight, average) in enumerate(zip(training.parameters, training.average)):
        tensors[f"{index}.weight"], tensors[f"{index}.average"] = weight.detach(), average
        for moment in _MOMENTS if weight in optimizer else ():
            tensors[f"{index}.{moment}"] = optimizer[weight][moment]
    best = training.best
    if best is not None:
        tensors |= {f"{index}.best": weight for index, weight in enumerate(best.weights)}
    about = {
        "plan": asdict(training.plan),
        "iteration": training.iteration,
        "seconds": training.seconds,
        "shares": training.shares,
        "best": None if best is None else {"held_out": best.held_out, "shares": best.shares},
        "log": [asdict(point) for point in training.log],
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with whole_file(path) as part:
            save_file(tensors, part, metadata={"training": json.dumps(about)})
    except (SafetensorError, OSError) as error:
        raise TrainingStateError(
            f"{path}: it cannot be written ({error_line(error)}); check the folder and its free space. The state that "
            "was saved before is still whole"
        ) from None


@torch.no_grad()
def load_state(training: Training, path: Path) -> None:
    """Restore a saved state into `training`; TrainingStateError if it was trained with another plan or is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            about = json.loads((file.metadata() or {})["training"])
        if about["plan"] != json.loads(json.dumps(asdict(training.plan))):
            raise TrainingStateError(
                f"{path}: it was started with other settings; use the same ones, or remove it to start again"
            )
        weights = training.parameters
        for index, (weight, average) in enumerate(zip(weights, training.average)):
            weight.copy_(tensors[f"{index}.weight"])
            average.copy_(tensors[f"{index}.average"])
        moments = [
            {name: tensors[f"{index}.{name}"] for name in _MOMENTS}
            for index in range(len(weights))
            if f"{index}.step" in tensors
        ]
        if moments:
            state = training.optimizer.state_dict()
            training.optimizer.load_state_dict({**state, "state": dict(enumerate(moments))})
        training.iteration, training.seconds = about["iteration"], about["seconds"]
        training.shares, best = tuple(about["shares"]), about["best"]
        if best is not None:
            kept = (tensors[f"{index}.best"].to(weight) for index, weight in enumerate(weights))
            training.best = Best(best["held_out"], tuple(kept), tuple(best["shares"]))
        training.log = [TrainingPoint(**point) for point in about["log"]]
    except TrainingStateError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingStateError(
            f"{path}: it is damaged or belongs to another model ({error_line(error)}); remove it to start again"
        ) from None
