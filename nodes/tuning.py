"""Tune TokenCache, Load TokenCache Preset and Calibrate I-Steps."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io, ui

from ..tokencache_core.schedules.automatic import AutomaticSchedule
from ..tokencache_core.tuning.preset import GOALS, SUFFIX, Goal, PresetError, load_preset, preset_of_text, to_json
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
            description="Finds the best settings for a goal, such as 3 times as fast or 35 dB, from a few short runs.",
            search_aliases=["tune", "auto", "optimize settings", "threshold", "preset", "benchmark"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to tune for. Apply TokenCache before this node has no effect."
                ),
                io.Conditioning.Input("positive", tooltip="What the runs draw: prompts like those you usually write."),
                io.Conditioning.Input("negative", tooltip="The negative that you sample with."),
                io.Latent.Input(
                    "latent_image",
                    tooltip="An empty latent, which sets the size and the batch of the runs. A batch of 4 or more is "
                    "needed to tell settings apart.",
                ),
                io.String.Input(
                    "save_as",
                    default="my_preset",
                    tooltip="Name of the file in models/tokencache. If it is taken, a number is added; nothing is "
                    "overwritten.",
                ),
                io.Combo.Input(
                    "goal",
                    options=list(GOALS),
                    default=GOALS[0],
                    tooltip="What to reach: a speed-up by the clock, or a likeness to the full run, as PSNR (in dB) "
                    "or SSIM.",
                ),
                io.Float.Input(
                    "value",
                    default=3.0,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    tooltip="The goal's value, such as 3 for speed-up, 35 for psnr or 0.98 for ssim.",
                ),
                io.Float.Input(
                    "minutes",
                    default=10.0,
                    min=0.01,
                    max=1440.0,
                    step=0.5,
                    tooltip="The most time that it may take. You can interrupt it: the best settings so far are kept.",
                ),
                io.Int.Input("steps", default=20, min=4, max=1000, tooltip="Denoise steps, as you sample."),
                io.Float.Input("cfg", default=4.0, min=0.0, max=100.0, step=0.1, tooltip="Guidance, as you sample."),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="As you sample. Samplers that add no noise of their own gain most.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple", tooltip="As you sample."
                ),
            ],
            outputs=[
                PresetType.Output(display_name="preset", tooltip="For Apply TokenCache; the same as in the file."),
                io.String.Output(
                    display_name="text",
                    tooltip="The settings that were found, and what was predicted and measured of them.",
                ),
                io.String.Output(
                    display_name="json",
                    tooltip="The preset as text. Pasted into Load TokenCache Preset, it travels with a workflow.",
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
            description="Loads the settings that Tune TokenCache found for a model, from a file or from text that "
            "travels with the workflow.",
            search_aliases=["preset", "settings", "tuned", "token cache"],
            inputs=[
                io.Combo.Input(
                    "preset_name",
                    options=[TEXT, *file_names(FOLDER, SUFFIX, FOLDER)],
                    tooltip="A .json file in models/tokencache, or the text below.",
                ),
                io.String.Input("text", default="", multiline=True, tooltip="The json output of Tune TokenCache."),
            ],
            outputs=[
                PresetType.Output(display_name="preset", tooltip="For Apply TokenCache."),
                io.String.Output(
                    display_name="words", tooltip="The preset's settings and what they promise, in words."
                ),
            ],
        )

    @classmethod
    def execute(cls, preset_name: str, text: str) -> io.NodeOutput:
        try:
            preset = preset_of_text(text) if preset_name == TEXT else load_preset(path_of(FOLDER, preset_name, FOLDER))
        except PresetError as error:
            raise PresetError(in_users_language(error.args[0])) from None
        return io.NodeOutput(preset, in_users_language(preset.text()))


class CalibrateISteps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheCalibrate",
            display_name="Calibrate I-Steps",
            category="TokenCache",
            description="Finds which steps of your model should be computed in full, from one full run and a few "
            "cached ones. Apply TokenCache finds the file by itself.",
            search_aliases=["calibrate", "I-step", "schedule", "places", "calibration"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to calibrate for. Apply TokenCache before this node has no effect."
                ),
                io.Conditioning.Input("positive", tooltip="What the runs draw: prompts like those you usually write."),
                io.Conditioning.Input("negative", tooltip="The negative that you sample with."),
                io.Latent.Input(
                    "latent_image", tooltip="An empty latent, which sets the size and the batch of the runs."
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    tooltip="Name of the file in models/tokencache. If it is empty, the name is made from the model, "
                    "sampler and guidance; if it is taken, a number is added.",
                ),
                io.Int.Input(
                    "i_steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="The number of I-steps to try in real cached runs. 0: several numbers. The file holds "
                    "the best places for every number.",
                ),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=3,
                    max=1000,
                    tooltip="Denoise steps, as you sample. The calibration also serves other numbers of steps.",
                ),
                io.Float.Input("cfg", default=4.0, min=0.0, max=100.0, step=0.1, tooltip="Guidance, as you sample."),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="As you sample. It must add no noise of its own and call the model once per step.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple", tooltip="As you sample."
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="text", tooltip="The places that were found, and where they were written."
                ),
                ScheduleType.Output(
                    display_name="schedule",
                    tooltip="For Apply TokenCache in the same workflow, which then waits for the calibration. Other "
                    "workflows find the file by themselves.",
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
        said = in_users_language(text)
        return io.NodeOutput(said, AutomaticSchedule(i_steps), ui=ui.PreviewText(said))


NODES = [TuneTokenCache, LoadTokenCachePreset, CalibrateISteps]
