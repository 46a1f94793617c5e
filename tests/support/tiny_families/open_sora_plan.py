"""Open-Sora-Plan of narrow blocks, loaded from a file of the release's layout by the pack's own node. It has as many
places as frames in one of its forms, where attention over time has as many keys as attention within a frame.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save_file
from tokencache_pack.nodes.host.open_sora_plan.video_model import load_video_model

from tokencache_core.open_sora_plan.checkpoint import released_key
from tokencache_core.open_sora_plan.config import VideoConfig
from tokencache_core.open_sora_plan.model import VideoTransformer

from .tiny_model import TinyModel, random_weights, text

CONFIG = VideoConfig(width=48, depth=3, heads=2, caption_channels=24, sample_size=8, video_length=5)


def save_released(folder: Path, config: VideoConfig = CONFIG) -> Path:
    """A file of random weights in the release's layout, with its config.json."""
    network = VideoTransformer(config)
    random_weights(network)
    tensors = {released_key(key): tensor.contiguous() for key, tensor in network.state_dict().items()}
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file(tensors, file)
    said = {
        "_class_name": "LatteT2V",
        "num_attention_heads": config.heads,
        "sample_size": [config.sample_size] * 2,
        "video_length": config.video_length,
    }
    (folder / "config.json").write_text(json.dumps(said))
    return file


def open_sora_plan() -> TinyModel:
    with TemporaryDirectory() as folder:
        model = load_video_model(str(save_released(Path(folder))), "1.1")
    return TinyModel("Open-Sora-Plan 1.1", model, text(24, 1), text(24, 2), (4, 5, 8, 10), detected=True)


def as_many_places_as_frames() -> TinyModel:
    return replace(open_sora_plan(), name="Open-Sora-Plan 1.1, square in time", latent=(4, 16, 8, 8))


TINY = {"Open-Sora-Plan 1.1": open_sora_plan, "Open-Sora-Plan 1.1, square in time": as_many_places_as_frames}
