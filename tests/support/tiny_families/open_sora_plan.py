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
from tokencache_core.open_sora_plan.config import SkipSparseConfig, VideoConfig
from tokencache_core.open_sora_plan.model import VideoTransformer
from tokencache_core.open_sora_plan.skip_sparse import SkipSparseTransformer

from .tiny_model import TinyModel, random_weights, text

CONFIG = VideoConfig(width=48, depth=3, heads=2, caption_channels=24, sample_size=8, video_length=5)

SKIP_SPARSE = SkipSparseConfig(width=48, depth=4, heads=2, caption_channels=24)
NAME = "diffusion_pytorch_model.safetensors"


def save_released(folder: Path, config: VideoConfig = CONFIG) -> Path:
    """A file of random weights in the release's layout, with its config.json."""
    network = VideoTransformer(config)
    random_weights(network)
    tensors = {released_key(key): tensor.contiguous() for key, tensor in network.state_dict().items()}
    file = folder / NAME
    save_file(tensors, file)
    said = {
        "_class_name": "LatteT2V",
        "num_attention_heads": config.heads,
        "sample_size": [config.sample_size] * 2,
        "video_length": config.video_length,
    }
    (folder / "config.json").write_text(json.dumps(said))
    return file


def save_skip_sparse(folder: Path, config: SkipSparseConfig = SKIP_SPARSE) -> Path:
    """The same of 1.3, or of 1.2."""
    network = SkipSparseTransformer(config)
    random_weights(network)
    save_file(network.state_dict(), folder / NAME)
    said = {
        "_class_name": "OpenSoraT2V_v1_3" if config.predicts_velocity else "OpenSoraT2V",
        "num_attention_heads": config.heads,
        "sparse1d": config.skip > 1,
        "sparse_n": config.skip,
        "interpolation_scale_h": config.stretch[1],
    }
    (folder / "config.json").write_text(json.dumps(said))
    return folder / NAME


def skip_sparse() -> TinyModel:
    """Its cells are rectangles; blocks 0 and 1 have dense attention, 2 and 3 the two kinds of sparse attention."""
    with TemporaryDirectory() as folder:
        model = load_video_model(str(save_skip_sparse(Path(folder))), "1.3")
    return TinyModel("Open-Sora-Plan 1.3", model, text(24, 1), text(24, 2), (8, 4, 8, 16), detected=True)


def skip_sparse_padded() -> TinyModel:
    """Cells are runs of tokens, the last of which is not full."""
    return replace(skip_sparse(), name="Open-Sora-Plan 1.3, padded", latent=(8, 3, 10, 10))


def dense() -> TinyModel:
    config = replace(SKIP_SPARSE, depth=3, in_channels=4, skip=1, stretch=(1.0, 1.5, 1.0), predicts_velocity=False)
    with TemporaryDirectory() as folder:
        model = load_video_model(str(save_skip_sparse(Path(folder), config)), "1.2")
    return TinyModel("Open-Sora-Plan 1.2", model, text(24, 1), text(24, 2), (4, 3, 6, 8), detected=True)


def open_sora_plan() -> TinyModel:
    with TemporaryDirectory() as folder:
        model = load_video_model(str(save_released(Path(folder))), "1.1")
    return TinyModel("Open-Sora-Plan 1.1", model, text(24, 1), text(24, 2), (4, 5, 8, 10), detected=True)


def as_many_places_as_frames() -> TinyModel:
    return replace(open_sora_plan(), name="Open-Sora-Plan 1.1, square in time", latent=(4, 16, 8, 8))


TINY = {
    "Open-Sora-Plan 1.1": open_sora_plan,
    "Open-Sora-Plan 1.1, square in time": as_many_places_as_frames,
    "Open-Sora-Plan 1.2": dense,
    "Open-Sora-Plan 1.3, padded": skip_sparse_padded,
    "Open-Sora-Plan 1.3": skip_sparse,
}
