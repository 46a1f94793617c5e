"""Samples by several methods, measured batch by batch into a folder, so that a measurement goes on where one before was
stopped.
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

RETIMED = 16  # batches after which the full run is timed anew, where it need not be sampled

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
    """Sample what has no file yet, all methods in turn for each batch, the `full` run first.

    file: of a method's batch. start: from a batch's number to what samples it by a method. measured: what to keep of a
    method's samples, tensors and text; each method's seconds beside those of the last full run are kept with them.
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
