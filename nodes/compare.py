"""Compare with and without TokenCache; the page shows a slider between the two pictures (web/js/compare_slider.js)."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io, ui

from .host.compare import compare, shown_pairs
from .host.ksampler_inputs import KSamplerInputs
from .host.language import in_users_language


class TokenCacheCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheCompare",
            display_name="Compare with and without TokenCache",
            category="TokenCache",
            description="Samples the same seed twice, without the cache and with it, and shows both pictures, how "
            "alike they are, and both times.",
            search_aliases=[
                "compare",
                "side by side",
                "slider",
                "before after",
                "PSNR",
                "SSIM",
                "speed-up",
                "benchmark",
            ],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From Apply TokenCache. The run without the cache uses the same model, with its LoRAs "
                    "and other changes.",
                ),
                io.Conditioning.Input("positive", tooltip="As for KSampler."),
                io.Conditioning.Input("negative", tooltip="As for KSampler."),
                io.Latent.Input("latent_image", tooltip="As for KSampler; both runs start from it."),
                io.Vae.Input("vae", tooltip="Decodes both results. The times do not include decoding."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Seed of the noise, the same for both runs.",
                ),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=1,
                    max=10000,
                    tooltip="Denoise steps, as you sample; the same for both runs.",
                ),
                io.Float.Input(
                    "cfg",
                    default=4.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance, as you sample: the higher, the less alike the two pictures are.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    tooltip="As you sample. Samplers that add no noise of their own gain most.",
                ),
                io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, tooltip="As you sample."),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="As for KSampler: below 1, part of the latent is kept.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="plain", tooltip="Without TokenCache."),
                io.Image.Output(display_name="cached", tooltip="With TokenCache."),
                io.Float.Output(
                    display_name="psnr",
                    tooltip="Likeness in dB, the mean over the pictures: higher is more alike; infinite if they are "
                    "equal.",
                ),
                io.Float.Output(
                    display_name="ssim",
                    tooltip="Structural similarity, mean over the pictures; 1 where they are equal.",
                ),
                io.Float.Output(
                    display_name="speed-up",
                    tooltip="Measured by the clock: the sampling time without TokenCache divided by the time with it.",
                ),
                io.String.Output(display_name="text", tooltip="The comparison in words."),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, vae, seed, steps, cfg, sampler_name, scheduler, denoise
    ) -> io.NodeOutput:
        inputs = KSamplerInputs(seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise)
        plain, cached, found = compare(model, vae, inputs)
        shown = shown_pairs(found, plain, cached, lambda pictures: ui.PreviewImage(pictures, cls=cls).values)
        return io.NodeOutput(
            plain,
            cached,
            found.mean_psnr,
            found.mean_ssim,
            found.speedup,
            in_users_language(found.text()),
            ui={"tokencache_compare": [in_users_language(shown)]},
        )


NODES = [TokenCacheCompare]
