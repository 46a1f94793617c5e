"""Load Cache Predictor."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io

from ..tokencache_core.predictor_file import SUFFIX, read_trained_cache

FOLDER = "tokencache"
PredictorType = io.Custom("TOKENCACHE_PREDICTOR")

folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


class LoadCachePredictor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheLoadPredictor",
            display_name="Load Cache Predictor",
            category="TokenCache",
            description="Loads what a training has learned about one model, for Apply TokenCache.",
            search_aliases=["cache predictor", "load predictor", "repair", "token cache lora"],
            inputs=[
                io.Combo.Input(
                    "predictor_name",
                    options=[name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(SUFFIX)],
                    tooltip="A .safetensors file in models/tokencache. It belongs to the model that it was trained on.",
                ),
            ],
            outputs=[PredictorType.Output(display_name="predictor", tooltip="For Apply TokenCache.")],
        )

    @classmethod
    def execute(cls, predictor_name: str) -> io.NodeOutput:
        return io.NodeOutput(read_trained_cache(folder_paths.get_full_path_or_raise(FOLDER, predictor_name)))


NODES = [LoadCachePredictor]
