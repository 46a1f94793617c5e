"""Tune TokenCache, Load TokenCache Preset and Calibrate I-Steps."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io, ui

from ..tokencache_core.schedules.automatic import AutomaticSchedule
from ..tokencache_core.tuning.preset import GOALS, SUFFIX, Goal, load_preset, preset_of_text, to_json
from .folders.bundled_files import file_names, path_of
from .folders.models_folder import FOLDER, file_to_write
from .host.calibrate import calibrate_model
from .host.language import in_users_language
from .host.progress_on_page import workflow_id
from .host.tune import tune
from .sockets import PresetType, ScheduleType

TEXT = "(the text below)"


class TuneTokenCache(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheTuning",
            display_name="Tune TokenCache",
            category="TokenCache",
            description="Finds the settings that make this model so many times as fast, or keep the picture so near, "
            "by a few short runs.",
            search_aliases=["tune", "auto", "optimize settings", "threshold", "preset", "benchmark"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to tune for. An Apply TokenCache before it has no effect here."
                ),
                io.Conditioning.Input("positive", tooltip="What the runs draw: what you usually ask for."),
                io.Conditioning.Input("negative", tooltip="The negative that you sample with."),
                io.Latent.Input(
                    "latent_image",
                    tooltip="An empty latent: its size and batch are those of the runs. A batch of 4 or more tells "
                    "settings apart.",
                ),
                io.String.Input(
                    "save_as",
                    default="my_preset",
                    tooltip="Name of the file in models/tokencache. Where it is taken, a number is added; nothing is "
                    "overwritten.",
                ),
                io.Combo.Input(
                    "goal",
                    options=list(GOALS),
                    default=GOALS[0],
                    tooltip="A speed-up by the clock, or the least PSNR (in dB) or SSIM against the full run.",
                ),
                io.Float.Input(
                    "value",
                    default=3.0,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    tooltip="Such as 3 for a speed-up, 35 for PSNR, 0.98 for SSIM.",
                ),
                io.Float.Input(
                    "minutes",
                    default=10.0,
                    min=0.01,
                    max=1440.0,
                    step=0.5,
                    tooltip="The most that it may take. It can be interrupted: the best found is kept.",
                ),
                io.Int.Input("steps", default=50, min=4, max=1000, tooltip="Denoise steps, as you sample."),
                io.Float.Input("cfg", default=4.0, min=0.0, max=100.0, step=0.1, tooltip="Guidance, as you sample."),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="ddim",
                    tooltip="As you sample; deterministic samplers gain most.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple", tooltip="As you sample."
                ),
            ],
            outputs=[
                PresetType.Output(display_name="preset", tooltip="For Apply TokenCache; the same as the file's."),
                io.String.Output(display_name="text", tooltip="What was found, predicted and measured."),
                io.String.Output(
                    display_name="json",
                    tooltip="The preset as text, for Load TokenCache Preset in a workflow to share.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, save_as, goal, value, minutes, steps, cfg, sampler_name, scheduler
    ) -> io.NodeOutput:
        file = file_to_write(save_as, SUFFIX)
        preset = tune(
            model,
            positive,
            negative,
            latent_image["samples"],
            Goal(goal, value),
            sampler_name=sampler_name,
            scheduler=scheduler,
            steps=steps,
            cfg=cfg,
            minutes=minutes,
            file=file,
            workflow=workflow_id(getattr(cls.hidden, "extra_pnginfo", None)),
        )
        said = in_users_language(preset.text())
        return io.NodeOutput(preset, said, to_json(preset), ui=ui.PreviewText(said))


class LoadTokenCachePreset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheLoadPreset",
            display_name="Load TokenCache Preset",
            category="TokenCache",
            description="The settings that a tuning found for one model, for Apply TokenCache; from a file, or from "
            "text that travels with the workflow.",
            search_aliases=["preset", "settings", "tuned", "token cache"],
            inputs=[
                io.Combo.Input(
                    "preset_name",
                    options=[TEXT, *file_names(FOLDER, SUFFIX, FOLDER)],
                    tooltip="A .json file in models/tokencache, or the text below.",
                ),
                io.String.Input(
                    "text", default="", multiline=True, tooltip="A preset's JSON, as Tune TokenCache puts it out."
                ),
            ],
            outputs=[
                PresetType.Output(display_name="preset", tooltip="For Apply TokenCache."),
                io.String.Output(display_name="words", tooltip="Its settings, and what they promise, in words."),
            ],
        )

    @classmethod
    def execute(cls, preset_name: str, text: str) -> io.NodeOutput:
        preset = preset_of_text(text) if preset_name == TEXT else load_preset(path_of(FOLDER, preset_name, FOLDER))
        return io.NodeOutput(preset, in_users_language(preset.text()))


class CalibrateISteps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheCalibrate",
            display_name="Calibrate I-Steps",
            category="TokenCache",
            description="Finds where the I-steps of this model should lie, from one whole run and a few cached ones. "
            "Apply TokenCache finds the file by itself.",
            search_aliases=["calibrate", "I-step", "schedule", "places", "calibration"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to calibrate for. An Apply TokenCache before it has no effect here."
                ),
                io.Conditioning.Input("positive", tooltip="What the runs draw: what you usually ask for."),
                io.Conditioning.Input("negative", tooltip="The negative that you sample with."),
                io.Latent.Input("latent_image", tooltip="An empty latent: its size and batch are those of the runs."),
                io.String.Input(
                    "save_as",
                    default="",
                    tooltip="Name of the file in models/tokencache; empty: one that says what it is of. Where it is "
                    "taken, a number is added.",
                ),
                io.Int.Input(
                    "i_steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="The number of I-steps that cached runs try places for. 0: several shares of the steps. "
                    "The file holds places for every number.",
                ),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=3,
                    max=1000,
                    tooltip="Denoise steps, as you sample. Other numbers of steps are served from it.",
                ),
                io.Float.Input("cfg", default=4.0, min=0.0, max=100.0, step=0.1, tooltip="Guidance, as you sample."),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="As you sample; one that adds no noise and calls the model once a step.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple", tooltip="As you sample."
                ),
            ],
            outputs=[
                io.String.Output(display_name="text", tooltip="What was found, and where it was written."),
                ScheduleType.Output(
                    display_name="schedule",
                    tooltip="For an Apply TokenCache of the same workflow, which then waits for the calibration. "
                    "Others find the file by themselves.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, save_as, i_steps, steps, cfg, sampler_name, scheduler
    ) -> io.NodeOutput:
        text = calibrate_model(
            model,
            positive,
            negative,
            latent_image,
            sampler_name=sampler_name,
            scheduler=scheduler,
            steps=steps,
            cfg=cfg,
            i_steps=i_steps,
            save_as=save_as,
        )
        return io.NodeOutput(text, AutomaticSchedule(i_steps), ui=ui.PreviewText(text))


NODES = [TuneTokenCache, LoadTokenCachePreset, CalibrateISteps]
