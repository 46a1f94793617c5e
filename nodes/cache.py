"""Apply TokenCache and I-Step Scheduler."""

from __future__ import annotations

from comfy_api.latest import io

from ..tokencache_core.schedules.automatic import AutomaticSchedule
from ..tokencache_core.schedules.choices import POLICIES, schedule_from_choices
from ..tokencache_core.schedules.schedule import UniformSchedule
from ..tokencache_core.settings import CONTEXTS, MAX_REACH, SCORES, SHARES, CacheSettings
from .host.model_hooks import apply_tokencache
from .sockets import PredictorType, PresetType, ReportType, ScheduleType

DEFAULTS = CacheSettings()


class ApplyTokenCache(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheApply",
            display_name="Apply TokenCache",
            category="TokenCache",
            description="Makes a diffusion transformer sample faster: most steps compute few tokens and forecast the "
            "rest.",
            search_aliases=[
                "cache",
                "speed up",
                "faster",
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
                    tooltip="A diffusion transformer. Of a model whose blocks TokenCache does not know, the whole "
                    "output is "
                    "forecast.",
                ),
                io.Float.Input(
                    "cache_ratio",
                    default=DEFAULTS.cache_ratio,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the tokens that a P-step does not compute. 0 computes everything, 1 nothing.",
                ),
                io.Int.Input(
                    "forecast_order",
                    default=DEFAULTS.order,
                    min=0,
                    max=2,
                    tooltip="How tokens that are not computed follow the time: 0 holds the last value, 1 and 2 "
                    "extrapolate it.",
                ),
                io.Int.Input(
                    "last_blocks",
                    default=DEFAULTS.last_blocks,
                    min=0,
                    max=128,
                    advanced=True,
                    tooltip="Number of final blocks that every step computes whole.",
                ),
                io.Combo.Input(
                    "context",
                    options=list(CONTEXTS),
                    default=DEFAULTS.context,
                    advanced=True,
                    tooltip="What computed tokens attend to: all tokens, the others' keys and values forecast or held "
                    "(stale), or only each other.",
                ),
                io.Combo.Input(
                    "score",
                    options=list(SCORES),
                    default=DEFAULTS.score,
                    advanced=True,
                    tooltip="How the computed tokens are chosen. Random and round-robin are there for comparison.",
                ),
                io.Combo.Input(
                    "shares",
                    options=list(SHARES),
                    default=DEFAULTS.shares,
                    advanced=True,
                    tooltip="Where in depth tokens are computed: in the first blocks, or evenly in all.",
                ),
                io.Float.Input(
                    "corrector",
                    default=DEFAULTS.corrector,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How much of what P-steps got wrong the next I-step takes back. For euler and ddim.",
                ),
                ScheduleType.Input(
                    "schedule",
                    optional=True,
                    tooltip="Which steps compute everything. Default: by a calibration of the model, or where known "
                    "models have them.",
                ),
                PredictorType.Input(
                    "predictor",
                    optional=True,
                    tooltip="From Load Cache Predictor: what a training has learned about this model. It brings the "
                    "settings that it was trained for.",
                ),
                PresetType.Input(
                    "preset",
                    optional=True,
                    tooltip="From Tune TokenCache or Load TokenCache Preset: takes the place of the settings above "
                    "and, unless one is connected, of the schedule.",
                ),
                io.Float.Input(
                    "memory_budget_gb",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1024.0,
                    step=0.1,
                    advanced=True,
                    tooltip="The most video memory, in GB, that the cache may take; beyond it stores less precisely, "
                    "then in main memory. 0: no limit.",
                ),
                io.Float.Input(
                    "forecast_reach",
                    optional=True,
                    default=DEFAULTS.reach,
                    min=0.0,
                    max=MAX_REACH,
                    step=0.01,
                    advanced=True,
                    tooltip="How far forecasts are taken, in distances of the P-step from the last I-step. 1: the "
                    "line or parabola itself.",
                ),
                io.Boolean.Input(
                    "calibrate_on_first_run",
                    optional=True,
                    default=False,
                    tooltip="The first run of a new model and schedule is computed whole and teaches where I-steps "
                    "should lie in all later ones.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, sampling with TokenCache."),
                ReportType.Output(display_name="report", tooltip="For TokenCache Report and Cache Heatmap Preview."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        cache_ratio,
        forecast_order,
        last_blocks,
        context,
        score,
        shares,
        corrector=DEFAULTS.corrector,
        schedule=None,
        predictor=None,
        preset=None,
        memory_budget_gb=0.0,
        forecast_reach=DEFAULTS.reach,
        calibrate_on_first_run=False,
    ) -> io.NodeOutput:
        settings = CacheSettings(
            cache_ratio=cache_ratio,
            order=forecast_order,
            last_blocks=last_blocks,
            context=context,
            score=score,
            shares=shares,
            corrector=corrector,
            reach=forecast_reach,
        )
        tuned_for = None
        if preset is not None:
            settings, schedule, tuned_for = preset.settings, schedule or preset.schedule(), preset.fingerprint
        if predictor is not None:
            settings, schedule = predictor.apply_to(settings), schedule or UniformSchedule(predictor.interval)
        return io.NodeOutput(
            *apply_tokencache(
                model,
                settings,
                schedule or AutomaticSchedule(),
                predictor,
                tuned_for,
                memory_budget_gb,
                calibrate_on_first_run,
            )
        )


class IStepScheduler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheIStepScheduler",
            display_name="I-Step Scheduler",
            category="TokenCache",
            description="Chooses the I-steps, which compute everything and reset the error of the P-steps between "
            "them.",
            search_aliases=["I-step", "schedule", "interval", "two-phase round-robin"],
            inputs=[
                io.Combo.Input(
                    "policy",
                    options=list(POLICIES),
                    default=POLICIES[0],
                    tooltip="By a calibration of the model; evenly, by interval; by count, where known models have "
                    "them; one interval early and another late; a list of your own; as a predictor is "
                    "calibrated; or when the expected error has grown too large.",
                ),
                io.Int.Input(
                    "interval",
                    default=3,
                    min=1,
                    max=100,
                    tooltip="Uniform: an I-step every so many steps. Two-phase: the same, before the split.",
                ),
                io.Int.Input(
                    "second_interval",
                    default=4,
                    min=1,
                    max=100,
                    tooltip="Two-phase only: the interval after the split.",
                ),
                io.Float.Input(
                    "split",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Two-phase only: the share of the model's time that belongs to the first phase.",
                ),
                io.Int.Input(
                    "warmup",
                    default=2,
                    min=1,
                    max=100,
                    advanced=True,
                    tooltip="Uniform, count and two-phase: the first steps, all I-steps.",
                ),
                io.String.Input(
                    "steps",
                    default="0, 1, 2, 5, 8, 11, 14, 17",
                    advanced=True,
                    tooltip="Explicit only: the I-steps, counted from 0, separated by commas. 0 must be among them.",
                ),
                io.Int.Input(
                    "count",
                    default=0,
                    min=0,
                    max=1000,
                    advanced=True,
                    tooltip="Automatic, count and percentile: the number of I-steps. 0, for automatic alone: the "
                    "usual number.",
                ),
                io.Float.Input(
                    "speed_up",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    advanced=True,
                    tooltip="Automatic, count and percentile: as many I-steps as a run so many times as fast has. 0: "
                    "take count.",
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
                    tooltip="Error-bound only: an I-step where the expected error since the last one, as a share of "
                    "the latent, would cross it.",
                ),
                PredictorType.Input(
                    "predictor",
                    optional=True,
                    tooltip="From Load Cache Predictor. Percentile needs a calibrated one; speed_up knows from it "
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
