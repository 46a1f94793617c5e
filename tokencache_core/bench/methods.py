"""The benchmark's methods: each is a name with the settings that its sweep tries.

Every sweep aims at the same speed-ups. Methods with I-steps reach them by their number of I-steps, found from the
calibrated seconds of an I-step and a P-step under their own settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..predictor.trained_cache import TrainedCache
from ..predictor.trained_parts import TrainedParts
from ..schedules.calibration import PlaceCalibration
from ..schedules.known_models import known_places
from ..settings import DEFAULTS, SCORES, CacheSettings
from ..tuning.preset import Preset
from .duels import CALIBRATED, FEWER_STEPS, TUNED
from .match import StepSeconds
from .turns import Candidate
from .workload import SampledWorkload

BETTER_SOLVERS = ("dpmpp_2m", "res_multistep")  # our own
HOST_SOLVERS = ("uni_pc", "deis")  # ComfyUI's; all of these evaluate once per step
UNTRAINED = "untrained-"  # followed by a score: a control for the predictor's choice of tokens
REUSE = CacheSettings(cache_ratio=1.0, order=0, fitted=False, corrector=0.0, reach=1.0)
RANDOM_TOKENS = replace(DEFAULTS, score="random", shares="uniform", cache_ratio=0.9)
FORECASTS = tuple(
    CacheSettings(cache_ratio=1.0, order=order, fitted=False, corrector=0.0, reach=1.0) for order in (1, 2)
)


@dataclass(frozen=True)
class Plan:
    """All that a method needs to plan its sweep.

    workload: what is sampled.
    calibration: the seconds of steps.
    trained, presets, places: as for `run_bench`.
    host_solvers: the available HOST_SOLVERS; each samples a workload in the given number of full steps.
    """

    workload: SampledWorkload
    calibration: StepSeconds
    trained: TrainedCache | None = None
    presets: tuple[Preset, ...] = ()
    places: tuple[PlaceCalibration, ...] = ()
    host_solvers: Mapping[str, Callable[[Any, int], Tensor]] = field(default_factory=dict)

    @property
    def full_seconds(self) -> float:
        return self.workload.protocol.steps * self.calibration.full_step

    @property
    def targets(self) -> list[float]:
        """The seconds that the sweeps aim at."""
        return [self.full_seconds / speedup for speedup in self.workload.protocol.speedups]

    def counts(self, settings: CacheSettings, targets: list[float]) -> list[int]:
        """The numbers of I-steps for these seconds, without repetition, the slowest run first; where P-steps compute
        nothing, also those for the compared speed-ups by share of the compute, which do not depend on the clock.
        """
        protocol, times = self.workload.protocol, self.calibration.times[settings]
        counts = {times.i_steps_for(seconds, protocol.steps) for seconds in targets}
        if settings.cache_ratio == 1 and settings.last_blocks == 0:
            counts |= {max(1, round(protocol.steps / speedup)) for speedup in protocol.compared}
        return sorted(counts, reverse=True)

    def usual(self, count: int, warmup: int = 1) -> tuple[int, ...]:
        """`count` I-steps where they lie on known models, used when nothing is known about this one."""
        return known_places(count, self.workload.taus(), warmup, self.workload.sampled.fading)

    def cached(
        self,
        method: str,
        settings: CacheSettings,
        i_steps: tuple[int, ...],
        note: str = "",
        learned: TrainedParts = TrainedParts(),
    ) -> Candidate:
        """A candidate that is sampled with the cache. note: for its row."""

        def run() -> tuple[Tensor, float]:
            pictures, report = self.workload.cached(settings, i_steps, learned=learned)
            return pictures, report.compute

        chosen = {name: value for name, value in asdict(settings).items() if name != "seed"}
        seconds = self.calibration.times[settings].run_seconds(len(i_steps), self.workload.protocol.steps)
        return Candidate(method, {**chosen, "i_steps": list(i_steps)}, run, seconds, note)

    def whole(self, method: str, steps: int, solver: str) -> Candidate:
        """A candidate that is sampled without the cache."""

        def run() -> tuple[Tensor, float]:
            own = self.host_solvers.get(solver)
            pictures = self.workload.full(steps, solver) if own is None else own(self.workload, steps)
            return pictures, steps / self.workload.protocol.steps

        return Candidate(method, {"steps": steps, "solver": solver}, run, steps * self.calibration.full_step)


def _full(plan: Plan) -> list[Candidate]:
    protocol = plan.workload.protocol
    return [plan.whole("full", protocol.steps, protocol.solver)]


def _fewer_steps(plan: Plan) -> list[Candidate]:
    return _fewer_steps_of(plan, FEWER_STEPS, plan.workload.protocol.solver)


def _fewer_steps_of(plan: Plan, method: str, solver: str) -> list[Candidate]:
    least = 2 if solver in HOST_SOLVERS else 1  # uni_pc does nothing in one
    counts = {max(least, round(seconds / plan.calibration.full_step)) for seconds in plan.targets}
    return [plan.whole(method, steps, solver) for steps in sorted(counts, reverse=True)]


def _reuse(plan: Plan) -> list[Candidate]:
    return _after_warmup(plan, "reuse", REUSE)


def _forecast(plan: Plan) -> list[Candidate]:
    return [candidate for settings in FORECASTS for candidate in _after_warmup(plan, "forecast", settings)]


def _after_warmup(plan: Plan, method: str, settings: CacheSettings) -> list[Candidate]:
    """A candidate per speed-up to aim at, which starts with as many I-steps as its forecast needs."""
    warmup = settings.order + 1  # a forecast of order m needs m + 1 refreshes
    return [plan.cached(method, settings, plan.usual(count, warmup)) for count in plan.counts(settings, plan.targets)]


def _tokencache(plan: Plan) -> list[Candidate]:
    note = f"no token computed on P-steps: forecast of order {DEFAULTS.order}, fitted towards {DEFAULTS.order + 1}"
    return [
        plan.cached("tokencache", DEFAULTS, plan.usual(count), note) for count in plan.counts(DEFAULTS, plan.targets)
    ]


def _random_tokens(plan: Plan) -> list[Candidate]:
    note = f"r {RANDOM_TOKENS.cache_ratio:g}, since tokencache computes no token"
    return _at_our_seconds(plan, "random-tokens", RANDOM_TOKENS, 1, note)


def _more_i_steps(plan: Plan) -> list[Candidate]:
    note = "as many I-steps as tokencache, evenly spread: its P-steps leave nothing to spend"
    return _at_our_seconds(plan, "more-i-steps", DEFAULTS, DEFAULTS.order + 1, note)


def _at_our_seconds(plan: Plan, method: str, settings: CacheSettings, warmup: int, note: str) -> list[Candidate]:
    """For each setting of `tokencache`, a candidate with as many I-steps as take the same time.

    settings: of the candidates.
    warmup: how many I-steps they start with.
    """
    steps = plan.workload.protocol.steps
    ours, theirs = plan.calibration.times[DEFAULTS], plan.calibration.times[settings]
    candidates: dict[int, Candidate] = {}
    for twin in _tokencache(plan):
        seconds = ours.run_seconds(len(twin.settings["i_steps"]), steps)
        count = theirs.i_steps_for(seconds, steps)
        candidate = plan.cached(method, settings, plan.usual(count, warmup), note)
        candidates.setdefault(count, replace(candidate, matched_to=twin.settings))
    return list(candidates.values())


def _trained(plan: Plan, method: str) -> list[Candidate]:
    assert plan.trained is not None  # else nobody asks for the method
    settings = trained_settings(method, plan.trained)
    learned = trained_parts(method, plan.trained, plan.workload.blocks)
    note = "" if method.startswith(UNTRAINED) else f"trained with an I-step every {plan.trained.interval} steps"
    return [
        plan.cached(method, settings, plan.usual(count), note, learned) for count in plan.counts(settings, plan.targets)
    ]


def _tuned(plan: Plan) -> list[Candidate]:
    taus = plan.workload.taus()
    return [
        plan.cached(
            "tuned", preset.settings, tuple(sorted(preset.schedule().i_steps(taus))), f"tuned for {preset.goal}"
        )
        for preset in plan.presets
    ]


def _calibrated(plan: Plan) -> list[Candidate]:
    taus, note = plan.workload.taus(), "I-steps and order of forecasts from the calibration"
    own = [(places, replace(DEFAULTS, order=places.order)) for places in plan.places]
    return [
        plan.cached(CALIBRATED, settings, places.i_steps(count, taus), note)
        for places, settings in own
        for count in plan.counts(settings, plan.targets)
    ]


def trained_settings(method: str, trained: TrainedCache) -> CacheSettings:
    """The settings of a method of TRAINED_METHODS: those of the predictor.

    untrained-SCORE chooses as many tokens by a score, evenly in all blocks.
    """
    if method.startswith(UNTRAINED):
        return replace(trained.settings, score=method.removeprefix(UNTRAINED), shares="uniform")
    return trained.settings


def trained_parts(method: str, trained: TrainedCache, blocks: Sequence[nn.Module]) -> TrainedParts:
    """The trained parts that a method of TRAINED_METHODS uses. blocks: the model's, in order."""
    if method.startswith(UNTRAINED):
        return TrainedParts()
    learned = trained.learned(blocks)
    return learned if method == "predictor" else replace(learned, repair=None)


@dataclass(frozen=True)
class Method:
    """A benchmark method.

    candidates: plans its sweep.
    timed: the cache settings whose step times it needs.
    """

    candidates: Callable[[Plan], list[Candidate]]
    timed: tuple[CacheSettings, ...] = ()


HOST_METHODS = {f"{FEWER_STEPS}-{solver}": solver for solver in HOST_SOLVERS}
METHODS: dict[str, Method] = {
    "full": Method(_full),
    FEWER_STEPS: Method(_fewer_steps),
    **{
        f"{FEWER_STEPS}-{solver}": Method(partial(_fewer_steps_of, method=f"{FEWER_STEPS}-{solver}", solver=solver))
        for solver in (*BETTER_SOLVERS, *HOST_SOLVERS)
    },
    "reuse": Method(_reuse, (REUSE,)),
    "forecast": Method(_forecast, FORECASTS),
    "random-tokens": Method(_random_tokens, (RANDOM_TOKENS, DEFAULTS)),
    "more-i-steps": Method(_more_i_steps, (DEFAULTS,)),
    "tokencache": Method(_tokencache, (DEFAULTS,)),
}
TRAINED_METHODS: dict[str, Method] = {  # with --predictor
    name: Method(partial(_trained, method=name))
    for name in ("predictor", "predictor-no-lora", *(UNTRAINED + score for score in SCORES))
}


def candidates_of(name: str, plan: Plan) -> list[Candidate]:
    return (METHODS | TRAINED_METHODS | {TUNED: Method(_tuned), CALIBRATED: Method(_calibrated)})[name].candidates(plan)


def settings_to_calibrate(
    names: list[str],
    trained: TrainedCache | None = None,
    presets: tuple[Preset, ...] = (),
    places: tuple[PlaceCalibration, ...] = (),
) -> list[CacheSettings]:
    """The settings whose step times the methods called `names`, presets and calibrations need, each once."""
    wanted = [settings for name in names if name in METHODS for settings in METHODS[name].timed]
    wanted += [preset.settings for preset in presets] + [replace(DEFAULTS, order=each.order) for each in places]
    if trained is not None:
        wanted += [trained_settings(name, trained) for name in names if name in TRAINED_METHODS]
    return list(dict.fromkeys(wanted))
