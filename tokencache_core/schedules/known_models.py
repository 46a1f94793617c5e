"""Where I-steps should lie in a run of a model that nobody has calibrated: where known models would have them.

The runs of models as different as we have resemble each other enough that places found on the record of one serve
another (docs/experiments.md). What ships are the directions of a few samples of each, at many noise times; a run's own
steps are read off between them, and the search is that of a calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ..sampling.polynomial import lagrange_weights
from ..settings import CacheSettings
from .place_climb import Places, best_places
from .placed import carried
from .run_record import RunRecord, noise_of
from .run_simulator import RunSimulator

FILE = Path(__file__).with_name(
    "known_models.safetensors"
)  # times (n,) float64, rising; directions (samples, n, n) float32, each in n coordinates of its own
MOST_STEPS = 60  # of a run in which places are searched for
NEAREST = 4  # known times that a direction is read off from, by the polynomial through them


def known_places(count: int, taus: Sequence[float], warmup: int = 1) -> Places:
    """`count` I-steps, or as many as there are steps, of a run at the noise times `taus` (falling): the first `warmup`,
    and the others where known models would have them.
    """
    count = min(count, len(taus))
    return _searched(count, tuple(taus), min(warmup, count))


def known_record(taus: Sequence[float]) -> RunRecord:
    """What a whole run at the noise times `taus` would tell, of samples of known models."""
    times, directions = _known()
    read_off = np.stack([_read_off(times, min(max(tau, times[0]), times[-1])) for tau in taus]) @ directions
    moves = np.diff([*(noise_of(tau) for tau in taus), 0.0])
    return RunRecord(tuple(taus), moves, read_off @ read_off.transpose(0, 2, 1))


@lru_cache(maxsize=4)  # its windows serve every number of I-steps
def known_simulator(taus: tuple[float, ...]) -> RunSimulator:
    """Of runs at the noise times `taus`, with the usual settings."""
    settings = CacheSettings()
    return RunSimulator(known_record(taus), order=settings.order, reach=settings.reach, corrector=settings.corrector)


@lru_cache(maxsize=256)
def _searched(count: int, taus: tuple[float, ...], warmup: int) -> Places:
    steps = len(taus)
    if count in (warmup, steps):
        return tuple(range(count))
    if steps > MOST_STEPS:  # places that are found for fewer steps, at the same noise
        fewer = tuple(taus[step * (steps - 1) // (MOST_STEPS - 1)] for step in range(MOST_STEPS))
        return carried(_searched(max(warmup + 1, round(count * MOST_STEPS / steps)), fewer, warmup), fewer, count, taus)
    return best_places(count, taus, known_simulator(taus).errors_db, warmup)


@lru_cache(maxsize=1)
def _known() -> tuple[np.ndarray, np.ndarray]:
    tensors = load_file(FILE)
    return tensors["times"], tensors["directions"].astype(np.float64)


def _read_off(times: np.ndarray, tau: float) -> np.ndarray:
    """(n,): the weights of the known directions in the one at tau."""
    weights = np.zeros(len(times))
    nearest = np.argsort(abs(times - tau))[:NEAREST]
    weights[nearest] = lagrange_weights(times[nearest].tolist(), tau)
    return weights
