"""The benchmark of cached sampling on one model: calibrates, plans every method's sweep, measures, and compares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ..predictor.trained_cache import TrainedCache
from ..schedules.calibration import PlaceCalibration
from ..tuning.preset import Preset
from .duels import CALIBRATED, TUNED, Duel, duels
from .match import calibrate
from .methods import Plan, candidates_of, settings_to_calibrate
from .output import describe_model, describe_protocol, document
from .rows import Row, rows_of
from .turns import Candidate, measure_interleaved, planned_seconds
from .workload import EXACT_STEPS, SampledWorkload


@dataclass(frozen=True)
class BenchResult:
    """The result of a benchmark. content: of its JSON file."""

    rows: tuple[Row, ...]
    duels: tuple[Duel, ...]
    content: dict[str, Any]


def run_bench(
    workload: SampledWorkload,
    file: str,
    methods: Sequence[str],
    trained: TrainedCache | None = None,
    presets: tuple[Preset, ...] = (),
    peers: Callable[[Any, float], list[Candidate]] = lambda workload, full_step: [],
    places: tuple[PlaceCalibration, ...] = (),
    host_solvers: Mapping[str, Callable[[Any, int], Tensor]] = {},
) -> BenchResult:
    """Measure and compare methods on one model; says on stderr how long it will take.

    model, file: the DiT and the name of its file.
    methods: names from METHODS and, if `trained` is given, TRAINED_METHODS; `full` is always measured.
    trained: a predictor for the model.
    presets: measured as the method `tuned`.
    peers: from a workload and the seconds of its unpatched step, the candidates of others' methods.
    places: measured as the method `calibrated`.
    host_solvers: by name, for HOST_METHODS.
    """
    names = [
        "full",
        *(name for name in methods if name != "full"),
        *([TUNED] if presets else []),
        *([CALIBRATED] if places else []),
    ]
    protocol = workload.protocol
    print("calibrating I-steps and P-steps ...", file=sys.stderr)
    plan = Plan(
        workload,
        calibrate(workload, settings_to_calibrate(names, trained, presets, places)),
        trained,
        presets,
        places,
        host_solvers,
    )
    candidates = [candidate for name in names for candidate in candidates_of(name, plan)]
    candidates += peers(workload, plan.calibration.full_step)
    exact_seconds = EXACT_STEPS * plan.calibration.full_step
    minutes = (planned_seconds(candidates, protocol.repeats) + exact_seconds) / 60
    print(f"{len(candidates)} settings, {protocol.repeats} repeats: about {minutes:.1f} minutes", file=sys.stderr)

    with tqdm(total=1 + len(candidates) * protocol.repeats, unit="run") as bar:

        def before(candidate: Candidate) -> None:
            bar.update()
            bar.set_postfix_str(candidate.method)

        bar.set_postfix_str("exact")
        exact = workload.exact()
        measured = measure_interleaved(candidates, protocol.repeats, synchronize=workload.synchronize, before=before)
        bar.update()
    rows = tuple(rows_of(candidates, measured, exact, workload))
    beaten = tuple(duels(rows, protocol.compared))
    content = document(
        device=workload.device,
        model=describe_model(workload.sampled, file),
        protocol=describe_protocol(
            protocol,
            is_pixels=workload.is_pixels,
            exact=workload.sampled.exact_schedule,
            asking=workload.sampled.asking,
        ),
        rows=rows,
        duels=beaten,
    )
    return BenchResult(rows, beaten, content)
