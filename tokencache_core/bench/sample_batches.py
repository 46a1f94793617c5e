"""Samples by several methods, measured batch by batch into files, so that a measurement continues where an earlier one
was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..engine.stopwatch import timed
from ..files.whole_file import whole_file

RETIMED = 16  # batches after which the full run is timed again if its samples exist already

M = TypeVar("M")


def measure_batches(
    batches: int,
    methods: Sequence[M],
    full: M,
    *,
    file: Callable[[M, int], Path],
    start: Callable[[int], Callable[[M], Tensor]],
    measured: Callable[[M, Tensor], tuple[dict[str, Tensor], dict[str, str]]],
) -> None:
    """Sample and measure all batches that have no file yet, for each batch all methods in turn, `full` first.

    The seconds of the method and of the last full run are written with the measurements.

    batches: their number.
    methods, full: the methods, and the one that is the full run.
    file: the file of a method's batch.
    start: from a batch's number, a function that samples it by a method.
    measured: from a method and its samples, the tensors and texts to keep.
    """
    full_seconds, timed_at = 0.0, -RETIMED
    for batch in tqdm(range(batches), unit="batch"):
        missing = [method for method in methods if not file(method, batch).exists()]
        if not missing:
            continue
        run = start(batch)
        if full not in missing and batch - timed_at >= RETIMED:
            full_seconds, timed_at = timed(lambda: run(full))[1], batch
        for method in sorted(missing, key=lambda method: method != full):
            samples, seconds = timed(lambda: run(method))
            if method == full:
                full_seconds, timed_at = seconds, batch
            tensors, about = measured(method, samples)
            file(method, batch).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file(method, batch)) as part:
                save_file(tensors, part, {"seconds": repr(seconds), "full_seconds": repr(full_seconds), **about})
