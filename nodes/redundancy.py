"""Measure Redundancy: how much updates change from step to step, and how much caching can gain; the page shows it
(web/js/redundancy_player.js).
"""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io, ui

from ..tokencache_core.reporting.heatmap import reduced
from .host.ksampler_inputs import KSamplerInputs
from .host.language import in_users_language
from .host.measure_redundancy import measure


class MeasureRedundancy(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheRedundancy",
            display_name="Measure Redundancy",
            category="TokenCache",
            description="Samples once without the cache and tells whether caching can pay: how much each token's "
            "update changes from step to step.",
            search_aliases=["redundancy", "similarity", "can caching pay", "token change", "profile blocks"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to look at. Apply TokenCache before this node has no effect."
                ),
                io.Conditioning.Input("positive", tooltip="What the run draws: a prompt like those you usually write."),
                io.Conditioning.Input("negative", tooltip="The negative that you sample with."),
                io.Latent.Input("latent_image", tooltip="An empty latent of the size and batch that you sample."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Seed of the noise.",
                ),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=2,
                    max=1000,
                    tooltip="Denoise steps, as you sample. With fewer steps, more changes from one to the next.",
                ),
                io.Float.Input(
                    "cfg", default=4.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="Guidance, as you sample."
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="As you sample. With samplers that add no noise of their own, least changes.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple", tooltip="As you sample."
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Decodes the run's own picture, which is shown under the tokens. Without it they are "
                    "shown alone.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="text", tooltip="The verdict, and what it rests on."),
                io.Image.Output(
                    display_name="chart",
                    tooltip="Similarity and change by step and block, and each block's share of the tokens and of "
                    "the time.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, seed, steps, cfg, sampler_name, scheduler, vae=None
    ) -> io.NodeOutput:
        inputs = KSamplerInputs(seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, 1.0)
        found = measure(model, inputs, vae)
        files = [] if found.pictures is None else ui.PreviewImage(reduced(found.pictures), cls=cls).values
        said = in_users_language(found.text)
        shown = {"text": (said,), "tokencache_player": [in_users_language(found.data)], "tokencache_pictures": files}
        return io.NodeOutput(said, found.chart, ui=shown)


NODES = [MeasureRedundancy]
