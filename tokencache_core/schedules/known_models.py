"""Places of I-steps for models without a calibration, taken from known models.

Runs of very different models resemble each other enough that places found on the record of one serve another
(docs/findings/places.md). The package contains a few full runs of each known model, at many noise times. A run's own
steps are interpolated between them, and the places are those that serve the known models best on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from ..sampling.noise_time import unit_variance
from ..sampling.polynomial import lagrange_weights
from ..settings import DEFAULTS
from .place_climb import Places, best_places
from .placed import carried
from .run_record import RunRecord, noise_of
from .run_simulator import USUAL_FADING, Fading, RunSimulator

FILE = Path(__file__).with_name("known_models.safetensors")
TIMES, FLOW = "times", "flow"  # of the file; every other tensor is named kind/model/part
MOST_STEPS = 60  # largest number of steps of a run in which places are searched for
NEAREST = 4  # number of known times in the polynomial that interpolates a direction


@dataclass(frozen=True, eq=False)
class KnownModel:
    """Full runs of one model.

    name: of the model's file, without its ending, followed by what the runs made, if the model makes several things.
    is_flow: trained as a flow, so that x = (1 - sigma) * clean + sigma * noise; else x = clean + sigma * noise.
    times: (times,) noise times, rising.
    directions: (B, times, coordinates), the direction of each sample at each time, in coordinates of its own.
    added: likewise, what the network adds to its input at each time (schedules/run_record.py).
    """

    name: str
    is_flow: bool
    times: np.ndarray
    directions: np.ndarray
    added: np.ndarray

    def record(self, taus: Sequence[float]) -> RunRecord:
        """The record of a full run at the noise times `taus`."""
        added = self._at(taus) @ self.added
        noise = [noise_of(tau) for tau in taus]
        sigmas = [each / (1 + each) for each in noise] if self.is_flow else noise
        scales = [1.0 if self.is_flow else unit_variance(each) for each in noise]
        return RunRecord(tuple(taus), (*sigmas, 0.0), tuple(scales), added @ np.swapaxes(added, 1, 2))

    def directions_at(self, taus: Sequence[float]) -> np.ndarray:
        """The directions (B, taus, coordinates), interpolated at `taus`."""
        return self._at(taus) @ self.directions

    def _at(self, taus: Sequence[float]) -> np.ndarray:
        """(taus, times): the weights of the known times in what is interpolated at `taus`."""
        weights = np.zeros((len(taus), len(self.times)))
        for row, tau in zip(weights, taus):
            tau = min(max(tau, self.times[0]), self.times[-1])
            nearest = np.argsort(abs(self.times - tau))[:NEAREST]
            row[nearest] = lagrange_weights(self.times[nearest].tolist(), tau)
        return weights


def known_places(
    count: int, taus: Sequence[float], warmup: int = 1, fading: Fading = USUAL_FADING, without: str = ""
) -> Places:
    """I-steps of a run: its first steps, and the others at the best places for known models.

    count: number of I-steps, at most the number of steps.
    taus: noise times of the run's steps, falling.
    warmup: number of first steps that are I-steps in any case.
    fading: of the model that is run.
    without: as in `known_models`.
    """
    count = min(count, len(taus))
    return _searched(count, tuple(taus), min(warmup, count), fading, without)


@lru_cache(maxsize=4)
def known_models(without: str = "") -> tuple[KnownModel, ...]:
    """The known models.

    without: the beginning of the names of those to leave out, for measurements on one of them; "": none.
    """
    tensors = load_file(FILE)
    times = tensors.pop(TIMES)
    models = sorted({name.rpartition("/")[0] for name in tensors})
    return tuple(
        KnownModel(
            model.rpartition("/")[2],
            model.startswith(FLOW),
            times,
            *(tensors[f"{model}/{part}"].astype(float) for part in ("directions", "added")),
        )
        for model in models
        if not (without and model.rpartition("/")[2].startswith(without))
    )


@lru_cache(maxsize=4)  # a calibration simulates them several times, as they fade in other ways
def known_records(taus: tuple[float, ...], without: str = "") -> tuple[RunRecord, ...]:
    """One record of full runs at `taus` for known models that were trained as flows, and one for the others.

    without: as in `known_models`.
    """
    kinds = [
        [model.record(taus) for model in known_models(without) if model.is_flow is is_flow] for is_flow in (True, False)
    ]
    return tuple(_together(records) for records in kinds if records)


def known_errors_db(
    taus: tuple[float, ...], candidates: Sequence[Places], fading: Fading = USUAL_FADING, without: str = ""
) -> np.ndarray:
    """(candidates,): the simulated errors of places, in dB; means over known models.

    fading: of the model that is run.
    without: as in `known_models`.
    """
    return np.mean([simulator.errors_db(candidates) for simulator in known_simulators(taus, fading, without)], axis=0)


@lru_cache(maxsize=4)  # their cached windows serve every number of I-steps
def known_simulators(
    taus: tuple[float, ...], fading: Fading = USUAL_FADING, without: str = ""
) -> tuple[RunSimulator, ...]:
    """Simulators with the default settings, one for each of `known_records`."""
    return tuple(RunSimulator(record, DEFAULTS, fading) for record in known_records(taus, without))


def _together(records: Sequence[RunRecord]) -> RunRecord:
    """One record for the samples of several runs with the same steps and moves."""
    return replace(records[0], products=np.concatenate([record.products for record in records]))


@lru_cache(maxsize=256)
def _searched(count: int, taus: tuple[float, ...], warmup: int, fading: Fading, without: str) -> Places:
    steps = len(taus)
    if count in (warmup, steps):
        return tuple(range(count))
    if steps > MOST_STEPS:  # find places for fewer steps over the same noise range, and transfer them
        fewer = tuple(taus[step * (steps - 1) // (MOST_STEPS - 1)] for step in range(MOST_STEPS))
        found = _searched(max(warmup + 1, round(count * MOST_STEPS / steps)), fewer, warmup, fading, without)
        return carried(found, fewer, count, taus)
    return best_places(count, taus, lambda candidates: known_errors_db(taus, candidates, fading, without), warmup)
