"""Nodes that load a small text-to-image flow model and write its prompts."""

from __future__ import annotations

from comfy_api.latest import io

from .folders.bundled_files import file_names, path_of
from .host.small_flux import load_small_flux, prompt_conditioning

FOLDER, KIND = "diffusion_models", "small_flux"
SUFFIX = ".safetensors"


class LoadSmallFlux(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheLoadSmallFlux",
            display_name="Load Small Flux",
            category="TokenCache",
            description=(
                "Loads a small text-to-image model with Flux's architecture, such as the one that comes with "
                "TokenCache and draws emoji. It needs no text encoder and no VAE file, and samples like Flux: shift "
                "nodes, LoRAs, ReferenceLatent and Apply TokenCache work on it."
            ),
            search_aliases=["flux", "flow", "emoji", "text to image", "load model", "test model", "without downloads"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=file_names(FOLDER, SUFFIX, KIND),
                    tooltip=(
                        "The pack's own model, or a .safetensors file in models/diffusion_models written by `python "
                        "-m reference.flow_samples --export`."
                    ),
                )
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The model, with a flow schedule of shift 3. It works on pixels: give the sampler an "
                    "Empty Chroma Radiance Latent Image and decode with the pixel_space VAE."
                )
            ],
        )

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_small_flux(path_of(FOLDER, model_name, KIND)))


class SmallFluxPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheSmallFluxPrompt",
            display_name="Small Flux Prompt",
            category="TokenCache",
            description="Writes prompts for a small Flux in words that it knows. Left empty, it gives the negative.",
            search_aliases=["prompt", "text", "emoji", "encode", "conditioning", "negative"],
            inputs=[
                io.Model.Input("model", tooltip="From Load Small Flux, before or after LoRAs and Apply TokenCache."),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    placeholder="a prompt a line, such as: google panda face",
                    tooltip=(
                        "A prompt: words in any order, such as an emoji's name. Words that the model does not know "
                        "are ignored. Several prompts, one per line, take turns over the batch. Leave it empty for "
                        "the negative."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(tooltip="For the sampler's positive input, or its negative if left empty.")
            ],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, text: str) -> io.NodeOutput:
        return io.NodeOutput(prompt_conditioning(model, text))


NODES = [LoadSmallFlux, SmallFluxPrompt]
