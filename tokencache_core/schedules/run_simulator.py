"""Simulation of cached runs of a model, from the record of a full run, in a fraction of a millisecond each.

What is left at a run's end of the error of a P-step depends on how the network answers to it. That is not known before
the run, and real networks' answers are partly chaotic (docs/findings/places.md). So it is simulated in two ways: as if
the network did not answer and errors merely faded (schedules/fading_errors.py), and as if it answered as a denoiser of
Gaussian data does (schedules/answered_errors.py). Places that are good in both ways serve most models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from ..settings import CacheSettings
from .answered_errors import AnsweredErrors
from .fading_errors import FadingErrors
from .run_record import RunRecord


@dataclass(frozen=True)
class Fading:
    """How the errors in x of a model's cached runs are assumed to fade.

    dampings: sigmas above which they do, as in `FadingErrors`; places that are good with several serve more models.
    answered: weight of `AnsweredErrors` beside that, 0..1.
    """

    dampings: tuple[float, ...]
    answered: float


# of models trained as flows, which forget little, and of all others
FLOW_FADING, USUAL_FADING = Fading((inf,), 0.3), Fading((2.0, 4.0, inf), 0.5)


class RunSimulator:
    """A simulator of cached runs.

    record: of a full run.
    settings: of the cached runs.
    fading: of the model that is run.
    """

    def __init__(self, record: RunRecord, settings: CacheSettings, fading: Fading = USUAL_FADING) -> None:
        self.fading = FadingErrors(record, settings, fading.dampings)
        self.answered = AnsweredErrors(record, settings)
        self.weight = fading.answered

    def error_db(self, places: Sequence[int]) -> float:
        """The error at the end of a run with these I-steps, in dB; useful only for comparing places."""
        return float(self.errors_db([places])[0])

    def errors_db(self, candidates: Sequence[Sequence[int]]) -> np.ndarray:
        """(candidates,): the errors in dB, means over the ways in which they are simulated.

        candidates: places, each rising from 0.
        """
        errors = np.zeros(len(candidates))
        for weight, simulator in ((1 - self.weight, self.fading), (self.weight, self.answered)):
            if weight:
                errors += weight * simulator.errors_db(candidates)
        return errors
