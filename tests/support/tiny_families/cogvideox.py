"""CogVideoX with positions in its attention (5B) and 1.5, which also joins frames in its patches."""

from __future__ import annotations

from typing import Any

from .tiny_model import TinyModel, from_config, host_config, text

_SHAPE = dict(
    image_model="cogvideox",
    num_attention_heads=4,
    attention_head_dim=16,
    in_channels=16,
    out_channels=16,
    time_embed_dim=32,
    text_embed_dim=24,
    num_layers=3,
    sample_width=16,
    sample_height=16,
    sample_frames=9,
    max_text_seq_length=11,
    use_rotary_positional_embeddings=True,
)


def _cogvideox(name: str, **shape: Any) -> TinyModel:
    config = host_config("CogVideoX_T2V")
    # the host gives the network x unscaled: without a largest sigma of 4518 the blocks' updates are not lost in it
    config = type("TinyCogVideoX", (config,), {"sampling_settings": {**config.sampling_settings, "zsnr": False}})
    model = from_config(config({**_SHAPE, **shape}))
    return TinyModel(name, model, text(24, 1), text(24, 2), (16, 4, 8, 6))


TINY = {
    "CogVideoX": lambda: _cogvideox("CogVideoX"),
    "CogVideoX 1.5": lambda: _cogvideox("CogVideoX 1.5", patch_size_t=2),
}
