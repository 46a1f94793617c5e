"""Nodes that load a DiT and choose its classes."""

from __future__ import annotations

from comfy_api.latest import io

from ..tokencache_core.dit.checkpoint import SUFFIXES
from .folders.bundled_files import file_names, path_of
from .host.dit_model import class_label_conditioning, load_dit_model

FOLDER, KIND = "diffusion_models", "dit"


class LoadDiT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheLoadDiT",
            display_name="Load DiT",
            category="TokenCache",
            description=(
                "Loads a class-conditional diffusion transformer (DiT) as a MODEL. Reads the original release's files "
                "of any size; width, depth, patches, channels and classes are taken from the file."
            ),
            search_aliases=["dit", "DiT-XL/2", "diffusion transformer", "class-conditional", "imagenet", "load model"],
            inputs=[
                io.Combo.Input(
                    "dit_name",
                    options=file_names(FOLDER, SUFFIXES, KIND),
                    tooltip=(
                        "A .safetensors or .pt file in models/diffusion_models, with the keys of "
                        "facebookresearch/DiT. A .pt file may hold plain tensors only."
                    ),
                )
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The DiT. With 4 channels it samples Stable Diffusion 1.x latents, with 3 channels pixels."
                )
            ],
        )

    @classmethod
    def execute(cls, dit_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_dit_model(path_of(FOLDER, dit_name, KIND)))


class DiTClassLabel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheDiTClassLabel",
            display_name="DiT Class Label",
            category="TokenCache",
            description="Chooses the classes that a DiT draws, by index or name. Left empty, it gives the negative.",
            search_aliases=["class", "label", "class conditioning", "imagenet class", "dit prompt", "null class"],
            inputs=[
                io.Model.Input("model", tooltip="The DiT from Load DiT, before or after LoRAs and Apply TokenCache."),
                io.String.Input(
                    "label",
                    default="",
                    placeholder="such as: 207, golden retriever",
                    tooltip=(
                        "A class index or name; capitals do not matter. Several, separated by commas, take turns "
                        "over the batch. Empty is the null class: use it as the negative."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(tooltip="For the sampler's positive input, or its negative if left empty.")
            ],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, label: str) -> io.NodeOutput:
        return io.NodeOutput(class_label_conditioning(model, label))


NODES = [LoadDiT, DiTClassLabel]
