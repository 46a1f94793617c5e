"""A short calibration of times: seconds of an unpatched step, and of I-steps and P-steps under each of the settings to
be swept.

Each is the shortest that was seen, since other work on the machine only ever makes a step longer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..settings import CacheSettings
from ..tuning.probe import StepTimes
from .workload import SampledWorkload

CALIBRATION_STEPS, CALIBRATION_I_STEPS = 10, (0, 1, 2, 6)
ROUNDS = 2


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of an unpatched step, and of I-steps and P-steps by settings."""

    full_step: float
    times: dict[CacheSettings, StepTimes]


def calibrate(workload: SampledWorkload, wanted: list[CacheSettings]) -> StepSeconds:
    """Time a few steps of each kind, in turn; the first round of three also warms everything up."""
    full: list[float] = []
    seen: dict[CacheSettings, dict[str, list[float]]] = {settings: {"I": [], "P": []} for settings in wanted}
    steps = len(CALIBRATION_I_STEPS)
    for round_index in range(1 + ROUNDS):
        started = time.perf_counter()
        workload.full(steps, workload.protocol.solver)
        workload.synchronize()
        if round_index:
            full.append((time.perf_counter() - started) / steps)
        for settings, seconds in seen.items():
            _, report = workload.cached(settings, CALIBRATION_I_STEPS, CALIBRATION_STEPS)
            if round_index:
                for step in report.steps:
                    seconds[step.kind].append(step.seconds)
    times = {settings: StepTimes(min(s["I"]), min(s["P"])) for settings, s in seen.items()}
    return StepSeconds(min(full), times)
