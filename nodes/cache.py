"""Apply TokenCache and I-Step Scheduler."""

from __future__ import annotations

from comfy_api.latest import io

from ..tokencache_core.predictor.trained_cache import TrainedCache
from ..tokencache_core.schedules.automatic import AutomaticSchedule
from ..tokencache_core.schedules.choices import POLICIES, schedule_from_choices
from ..tokencache_core.schedules.schedule import Schedule, UniformSchedule
from ..tokencache_core.settings import DEFAULTS, MAX_ORDER, MAX_REACH, SHARES, CacheSettings
from .host.model_hooks import apply_tokencache
from .sockets import PredictorType, PresetType, ReportType, ScheduleType

AUTOMATIC, AUTOMATIC_ORDER = 0.0, -1
WHOLE_CONTEXTS = ("forecast", "stale")  # in which computed tokens attend to all others


class ApplyTokenCache(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheApply",
            display_name="Apply TokenCache",
            category="TokenCache",
            description="Makes a diffusion transformer sample faster: computes some denoise steps in full and "
            "forecasts the others.",
            search_aliases=[
                "faster",
                "speed up",
                "speed",
                "accelerate",
                "cache",
                "token caching",
                "TeaCache",
                "EasyCache",
                "LazyCache",
                "MagCache",
                "TaylorSeer",
                "FORA",
                "ToCa",
                "DBCache",
                "First Block Cache",
                "WaveSpeed",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model to speed up: a diffusion transformer, with its LoRAs. For models that "
                    "TokenCache does not know, the whole output is forecast.",
                ),
                io.Float.Input(
                    "speed_up",
                    default=AUTOMATIC,
                    min=AUTOMATIC,
                    max=100.0,
                    step=0.1,
                    tooltip="How many times as fast to sample, at most. Higher is faster, but less like the plain "
                    "picture. 0: automatic, which is 2.5 at 20 to 30 steps and 2.8 at 50.",
                ),
                ScheduleType.Input(
                    "schedule",
                    optional=True,
                    tooltip="From I-Step Scheduler or Calibrate I-Steps: which steps are computed in full. It "
                    "replaces speed_up.",
                ),
                PredictorType.Input(
                    "predictor",
                    optional=True,
                    tooltip="From Load Cache Predictor: what training has learned about this model. It brings the "
                    "settings that it was trained for.",
                ),
                PresetType.Input(
                    "preset",
                    optional=True,
                    tooltip="From Tune TokenCache or Load TokenCache Preset. It replaces speed_up and all other "
                    "settings except memory_budget_gb.",
                ),
                io.Boolean.Input(
                    "calibrate_on_first_run",
                    optional=True,
                    default=False,
                    advanced=True,
                    tooltip="May help if pictures differ too much: the first run with a new model, sampler or "
                    "schedule is computed in full, and shows which steps later runs should compute. Compare before "
                    "and after.",
                ),
                io.Float.Input(
                    "memory_budget_gb",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1024.0,
                    step=0.1,
                    advanced=True,
                    tooltip="The most video memory, in GB, that the cache may use. If it needs more, it stores less "
                    "precisely, then in main memory. 0: no limit.",
                ),
                io.Float.Input(
                    "cache_ratio",
                    optional=True,
                    default=DEFAULTS.cache_ratio,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Share of the tokens that P-steps, the steps in between, do not compute. 1 measured "
                    "best; 0 computes everything, for comparison.",
                ),
                io.Int.Input(
                    "forecast_order",
                    optional=True,
                    default=AUTOMATIC_ORDER,
                    min=AUTOMATIC_ORDER,
                    max=MAX_ORDER,
                    advanced=True,
                    tooltip="How tokens that are not computed are forecast: 0 holds the last value, 1 extrapolates a "
                    "line, 2 a parabola. -1: automatic, from the model's calibration, or, without one, as far between "
                    "line and parabola as the run's own I-steps show.",
                ),
                io.Float.Input(
                    "forecast_reach",
                    optional=True,
                    default=DEFAULTS.reach,
                    min=0.0,
                    max=MAX_REACH,
                    step=0.01,
                    advanced=True,
                    tooltip="How far to extrapolate, relative to the P-step's distance from the last I-step. 1 "
                    "follows the line or parabola exactly; a little more measured best.",
                ),
                io.Float.Input(
                    "corrector",
                    optional=True,
                    default=DEFAULTS.corrector,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How much of the P-steps' error the next I-step takes back. Works with euler and ddim; 0 "
                    "turns it off.",
                ),
                io.Int.Input(
                    "last_blocks",
                    optional=True,
                    default=DEFAULTS.last_blocks,
                    min=0,
                    max=128,
                    advanced=True,
                    tooltip="Number of final blocks that every step computes in full.",
                ),
                io.Combo.Input(
                    "context",
                    optional=True,
                    options=list(WHOLE_CONTEXTS),
                    default=DEFAULTS.context,
                    advanced=True,
                    tooltip="With cache_ratio below 1: whether the keys and values of tokens that are not computed "
                    "are forecast, or kept as they were (stale), in half the memory.",
                ),
                io.Combo.Input(
                    "shares",
                    optional=True,
                    options=list(SHARES),
                    default=DEFAULTS.shares,
                    advanced=True,
                    tooltip="With cache_ratio below 1: whether tokens are computed in the first blocks, or evenly in "
                    "all.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, which now samples with TokenCache."),
                ReportType.Output(display_name="report", tooltip="For TokenCache Report and Cache Heatmap Preview."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        speed_up=AUTOMATIC,
        schedule=None,
        predictor=None,
        preset=None,
        calibrate_on_first_run=False,
        memory_budget_gb=0.0,
        cache_ratio=DEFAULTS.cache_ratio,
        forecast_order=AUTOMATIC_ORDER,
        forecast_reach=DEFAULTS.reach,
        corrector=DEFAULTS.corrector,
        last_blocks=DEFAULTS.last_blocks,
        context=DEFAULTS.context,
        shares=DEFAULTS.shares,
    ) -> io.NodeOutput:
        automatic_order = forecast_order == AUTOMATIC_ORDER
        settings = CacheSettings(
            cache_ratio=cache_ratio,
            order=DEFAULTS.order if automatic_order else forecast_order,
            fitted=automatic_order,
            last_blocks=last_blocks,
            context=context,
            shares=shares,
            corrector=corrector,
            reach=forecast_reach,
        )
        tuned_for = None
        if preset is not None:
            settings, schedule, tuned_for = preset.settings, schedule or preset.schedule(), preset.fingerprint
        if predictor is not None:
            settings = predictor.apply_to(settings)
        return io.NodeOutput(
            *apply_tokencache(
                model,
                settings,
                schedule or _schedule(speed_up, predictor),
                predictor,
                tuned_for,
                memory_budget_gb,
                calibrate_on_first_run,
                calibrated_order=automatic_order and preset is None and predictor is None,
            )
        )


def _schedule(speed_up: float, predictor: TrainedCache | None) -> Schedule:
    """The schedule when none is connected."""
    if predictor is None:
        return AutomaticSchedule(speedup=speed_up)
    if not speed_up:
        return UniformSchedule(predictor.interval)
    return AutomaticSchedule(speedup=speed_up, p_step=predictor.p_step)


class IStepScheduler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheIStepScheduler",
            display_name="I-Step Scheduler",
            category="TokenCache",
            description="Places the I-steps yourself: the steps that are computed in full, and correct the P-steps "
            "between them.",
            search_aliases=["I-step", "schedule", "interval", "two-phase round-robin"],
            inputs=[
                io.Combo.Input(
                    "policy",
                    options=list(POLICIES),
                    default=POLICIES[0],
                    tooltip="automatic: from a calibration of the model, if there is one. uniform: at an interval. "
                    "count: where known models have them. two-phase: one interval early, another late. explicit: "
                    "your own list. percentile: from a predictor's calibration. error-bound: whenever the expected "
                    "error is too large.",
                ),
                io.Int.Input(
                    "interval",
                    default=3,
                    min=1,
                    max=100,
                    tooltip="uniform: every how many steps an I-step comes. two-phase: the same, before the split.",
                ),
                io.Int.Input(
                    "second_interval",
                    default=4,
                    min=1,
                    max=100,
                    advanced=True,
                    tooltip="two-phase: the interval after the split.",
                ),
                io.Float.Input(
                    "split",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="two-phase: the share of the model's time that the first phase takes.",
                ),
                io.Int.Input(
                    "warmup",
                    default=2,
                    min=1,
                    max=100,
                    advanced=True,
                    tooltip="uniform, count and two-phase: how many steps at the start are all I-steps.",
                ),
                io.String.Input(
                    "steps",
                    default="0, 1, 2, 5, 8, 11, 14, 17",
                    advanced=True,
                    tooltip="explicit: the I-steps, counted from 0 and separated by commas. 0 must be among them.",
                ),
                io.Int.Input(
                    "count",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="automatic, count and percentile: the number of I-steps. With automatic, 0 is the usual "
                    "number.",
                ),
                io.Float.Input(
                    "speed_up",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    advanced=True,
                    tooltip="automatic, count and percentile: how many times as fast to sample; sets the number of "
                    "I-steps. 0: use count.",
                ),
                io.Float.Input(
                    "error_bound",
                    optional=True,
                    default=0.02,
                    min=0.0001,
                    max=10.0,
                    step=0.0001,
                    round=False,
                    advanced=True,
                    tooltip="error-bound: an I-step comes before the expected error since the last one, as a share "
                    "of the latent, exceeds this.",
                ),
                PredictorType.Input(
                    "predictor",
                    optional=True,
                    tooltip="From Load Cache Predictor. percentile needs a calibrated one; speed_up takes from it "
                    "what P-steps cost.",
                ),
            ],
            outputs=[ScheduleType.Output(display_name="schedule", tooltip="For Apply TokenCache.")],
        )

    @classmethod
    def execute(
        cls,
        policy,
        interval,
        second_interval,
        split,
        warmup,
        steps,
        count=0,
        speed_up=0.0,
        error_bound=0.02,
        predictor=None,
    ) -> io.NodeOutput:
        known = {} if predictor is None else {"percentiles": predictor.percentiles, "p_step": predictor.p_step}
        return io.NodeOutput(
            schedule_from_choices(
                policy, interval, second_interval, split, warmup, steps, count, speed_up, error_bound, **known
            )
        )


NODES = [ApplyTokenCache, IStepScheduler]
