"""Places of I-steps for models without a calibration, taken from known models.

Runs of very different models resemble each other enough that places found on the record of one serve another
(docs/findings/places.md). The package contains the directions of a few samples of each known model, at many noise
times. A run's own steps are interpolated between them, and the places are searched for as in a calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from ..sampling.polynomial import lagrange_weights
from ..settings import CacheSettings
from .place_climb import Places, best_places
from .placed import carried
from .run_record import RunRecord, noise_of
from .run_simulator import RunSimulator

# times (n,) float64, rising; directions (samples, n, n) float32, each in n coordinates of its own
FILE = Path(__file__).with_name("known_models.safetensors")
MOST_STEPS = 60  # largest number of steps of a run in which places are searched for
NEAREST = 4  # number of known times in the polynomial that interpolates a direction


def known_places(count: int, taus: Sequence[float], warmup: int = 1) -> Places:
    """I-steps of a run: its first steps, and the others at the best places for known models.

    count: number of I-steps, at most the number of steps.
    taus: noise times of the run's steps, falling.
    warmup: number of first steps that are I-steps in any case.
    """
    count = min(count, len(taus))
    return _searched(count, tuple(taus), min(warmup, count))


def known_record(taus: Sequence[float]) -> RunRecord:
    """The record of whole runs of known models at the noise times `taus`."""
    times, known = _known()
    directions = np.stack([_interpolation(times, min(max(tau, times[0]), times[-1])) for tau in taus]) @ known
    moves = np.diff([*(noise_of(tau) for tau in taus), 0.0])
    return RunRecord(tuple(taus), moves, directions @ np.swapaxes(directions, 1, 2))


@lru_cache(maxsize=4)  # its cached windows serve every number of I-steps
def known_simulator(taus: tuple[float, ...]) -> RunSimulator:
    """The simulator of known models' runs at the noise times `taus`, with the default settings."""
    settings = CacheSettings()
    return RunSimulator(known_record(taus), order=settings.order, reach=settings.reach, corrector=settings.corrector)


@lru_cache(maxsize=256)
def _searched(count: int, taus: tuple[float, ...], warmup: int) -> Places:
    steps = len(taus)
    if count in (warmup, steps):
        return tuple(range(count))
    if steps > MOST_STEPS:  # find places for fewer steps over the same noise range, and transfer them
        fewer = tuple(taus[step * (steps - 1) // (MOST_STEPS - 1)] for step in range(MOST_STEPS))
        return carried(_searched(max(warmup + 1, round(count * MOST_STEPS / steps)), fewer, warmup), fewer, count, taus)
    return best_places(count, taus, known_simulator(taus).errors_db, warmup)


@lru_cache(maxsize=1)
def _known() -> tuple[np.ndarray, np.ndarray]:
    tensors = load_file(FILE)
    return tensors["times"], tensors["directions"].astype(np.float64)


def _interpolation(times: np.ndarray, tau: float) -> np.ndarray:
    """(n,): the weights of the known directions in the interpolated direction at `tau`."""
    weights = np.zeros(len(times))
    nearest = np.argsort(abs(times - tau))[:NEAREST]
    weights[nearest] = lagrange_weights(times[nearest].tolist(), tau)
    return weights
