"""Nodes that load Open-Sora-Plan, and give it prompts and latents."""

from __future__ import annotations

from comfy_api.latest import io

from ..tokencache_core.open_sora_plan.checkpoint import FACTORISED, VERSIONS
from ..tokencache_core.open_sora_plan.pickled_weights import SUFFIXES as PICKLED
from ..tokencache_core.open_sora_plan.released_files import is_first_shard_or_whole
from .folders.bundled_files import file_names, path_of
from .host.open_sora_plan.mt5 import load_mt5
from .host.open_sora_plan.prompt import prompt_conditionings
from .host.open_sora_plan.video_model import WEIGHT_DTYPES, empty_latent, load_video_model
from .host.open_sora_plan.video_vae import PIXELS, load_video_vae, pixel_vae

MODELS, KIND, VAES, TEXT, SUFFIX = "diffusion_models", "open_sora_plan", "vae", "text_encoders", ".safetensors"


def _names(folder: str, kind: str, suffixes: tuple[str, ...] = (SUFFIX,)) -> list[str]:
    return [name for name in file_names(folder, suffixes, kind) if is_first_shard_or_whole(name)]


class LoadOpenSoraPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheLoadOpenSoraPlan",
            display_name="Load Open-Sora-Plan",
            category="TokenCache",
            description=(
                "Loads the text-to-video transformer of Open-Sora-Plan 1.0 to 1.3 (PKU-YuanGroup) as a MODEL. Sizes "
                "are taken from the file and from the config.json beside it."
            ),
            search_aliases=["open-sora-plan", "opensora plan", "latte", "text to video", "load video model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=_names(MODELS, KIND),
                    tooltip=(
                        "The released diffusion_pytorch_model.safetensors, together with its config.json in a folder "
                        "of its own in models/diffusion_models. If there are several shards, the first."
                    ),
                ),
                io.Combo.Input(
                    "version",
                    options=list(VERSIONS),
                    default=FACTORISED,
                    tooltip=(
                        "The version of the file. 1.1 and 1.0 look alike, but count frames differently; of another "
                        "version than chosen, a file is refused."
                    ),
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    optional=True,
                    advanced=True,
                    tooltip="How the weights are kept in memory. fp8 takes half the memory, with some loss of quality.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The transformer, for Apply TokenCache and the sampler.")],
        )

    @classmethod
    def execute(cls, model_name: str, version: str, weight_dtype: str = "default") -> io.NodeOutput:
        return io.NodeOutput(load_video_model(path_of(MODELS, model_name, KIND), version, weight_dtype))


class LoadOpenSoraPlanVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheLoadOpenSoraPlanVAE",
            display_name="Load Open-Sora-Plan VAE",
            category="TokenCache",
            description=(
                "Loads the video VAE of Open-Sora-Plan 1.1, 1.2 or 1.3. VAE Decode decodes long clips with it in tiles "
                "of space and time, so that memory does not grow with the clip."
            ),
            search_aliases=["open-sora-plan vae", "causal video vae", "wf-vae", "load vae", "video vae"],
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=[*_names(VAES, VAES, (SUFFIX, *PICKLED)), PIXELS],
                    tooltip=(
                        "The released diffusion_pytorch_model.safetensors (1.1), checkpoint.ckpt (1.2) or merged.ckpt "
                        "(1.3) of the folder vae, in models/vae. "
                        "pixel_space is for small models that sample pictures themselves."
                    ),
                )
            ],
            outputs=[io.Vae.Output(tooltip="For VAE Decode, VAE Encode, and their tiled forms.")],
        )

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(pixel_vae() if vae_name == PIXELS else load_video_vae(path_of(VAES, vae_name, VAES)))


class LoadMT5XXL(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheLoadMT5XXL",
            display_name="Load mT5-XXL",
            category="TokenCache",
            description=(
                "Loads the encoder of google/mt5-xxl, which reads the prompts of Open-Sora-Plan 1.3 and 1.2, as CLIP."
            ),
            search_aliases=["mt5", "mt5xxl", "text encoder", "open-sora-plan clip", "load clip"],
            inputs=[
                io.Combo.Input(
                    "text_encoder",
                    options=_names(TEXT, TEXT, (SUFFIX, *PICKLED)),
                    tooltip=(
                        "Weights of mT5-XXL as .safetensors or .bin, in models/text_encoders, with the spiece.model "
                        "of google/mt5-xxl beside them. Of several shards, the first."
                    ),
                )
            ],
            outputs=[io.Clip.Output(tooltip="For Open-Sora-Plan Prompt.")],
        )

    @classmethod
    def execute(cls, text_encoder: str) -> io.NodeOutput:
        return io.NodeOutput(load_mt5(path_of(TEXT, text_encoder, TEXT)))


class OpenSoraPlanPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheOpenSoraPlanPrompt",
            display_name="Open-Sora-Plan Prompt",
            category="TokenCache",
            description=(
                "Encodes a prompt and a negative prompt for Open-Sora-Plan as its training did. Versions 1.1 and 1.0 "
                "read small letters and at most 300 tokens; 1.3 and 1.2 at most 512."
            ),
            search_aliases=["open-sora-plan text", "video prompt", "caption", "text encode"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="From Load Open-Sora-Plan, before or after LoRAs and Apply TokenCache."
                ),
                io.String.Input("prompt", multiline=True, tooltip="What the clip shows, in English."),
                io.String.Input(
                    "negative", multiline=True, default="", tooltip="What it should not show; may be empty."
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip=(
                        "For 1.1 and 1.0 CLIPLoader with a t5xxl file and the type pixart, for 1.3 and 1.2 Load "
                        "mT5-XXL. A small model that brings its own words needs none."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="For the sampler's positive."),
                io.Conditioning.Output(display_name="negative", tooltip="For the sampler's negative."),
            ],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, prompt: str, negative: str, clip: io.Clip.Type | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(*prompt_conditionings(model, clip, prompt, negative))


class EmptyOpenSoraPlanLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheEmptyOpenSoraPlanLatent",
            display_name="Empty Open-Sora-Plan Latent",
            category="TokenCache",
            description="Makes an empty latent for a clip of an Open-Sora-Plan model.",
            search_aliases=["empty video latent", "open-sora-plan latent", "frames"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="From Load Open-Sora-Plan, before or after LoRAs and Apply TokenCache."
                ),
                io.Int.Input("width", default=512, min=8, max=4096, step=8, tooltip="Width in pixels."),
                io.Int.Input("height", default=512, min=8, max=4096, step=8, tooltip="Height in pixels."),
                io.Int.Input(
                    "frames",
                    default=65,
                    min=1,
                    max=4096,
                    tooltip=(
                        "1.1 was trained on 65 or 221 frames, 1.3 on up to 93, and both on single pictures. Other "
                        "numbers than 1, 5, 9, ... are rounded down to one of these."
                    ),
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Number of clips."),
            ],
            outputs=[io.Latent.Output(tooltip="For the sampler's latent_image.")],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, width: int, height: int, frames: int, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(empty_latent(model, width, height, frames, batch_size))


NODES = [LoadOpenSoraPlan, LoadOpenSoraPlanVAE, LoadMT5XXL, OpenSoraPlanPrompt, EmptyOpenSoraPlanLatent]
