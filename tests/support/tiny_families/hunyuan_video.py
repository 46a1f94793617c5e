"""HunyuanVideo from text, and from an image by token replacement, HunyuanVideo 1.5 and HunyuanImage 2.1."""

from __future__ import annotations

import torch
from comfy.ldm.hunyuan_video.model import HunyuanVideo

from .tiny_model import TinyModel, from_state_dict, text

_HUNYUAN = dict(
    in_channels=16,
    out_channels=16,
    vec_in_dim=768,
    context_in_dim=24,
    hidden_size=128,
    mlp_ratio=4.0,
    num_heads=1,
    depth=2,
    depth_single_blocks=2,
    axes_dim=[16, 56, 56],
    theta=256,
    patch_size=[1, 2, 2],
    qkv_bias=True,
    guidance_embed=True,
    byt5=False,
    meanflow=False,
    use_cond_type_embedding=False,
    vision_in_dim=None,
    meanflow_sum=False,
)
_HUNYUAN_1_5 = {
    **_HUNYUAN,
    "in_channels": 65,
    "out_channels": 32,
    "vec_in_dim": None,
    "patch_size": [1, 1, 1],
    "guidance_embed": False,
    "byt5": True,
    "use_cond_type_embedding": True,
    "vision_in_dim": 1152,
    "meanflow_sum": True,
}
_HUNYUAN_IMAGE = {
    **_HUNYUAN,
    "in_channels": 64,
    "out_channels": 64,
    "vec_in_dim": None,
    "patch_size": [1, 1],
    "axes_dim": [64, 64],
    "guidance_embed": False,
}


def text_to_video() -> TinyModel:
    model = from_state_dict(HunyuanVideo, std=0.08, **_HUNYUAN)
    return TinyModel(
        "HunyuanVideo T2V", model, text(24, 1, pooled=768), text(24, 2, pooled=768), (16, 3, 10, 8), detected=True
    )


def image_to_video() -> TinyModel:
    """The first frame's tokens are modulated as those of a clean image."""
    model = from_state_dict(HunyuanVideo, std=0.08, **{**_HUNYUAN, "guidance_embed": False})
    positive, negative = (text(24, seed, pooled=768, guiding_frame_index=0) for seed in (1, 2))
    return TinyModel("HunyuanVideo I2V", model, positive, negative, (16, 3, 10, 8), detected=True)


def hunyuan_video_1_5() -> TinyModel:
    """With tokens of a second text encoder before the first one's."""
    model = from_state_dict(HunyuanVideo, std=0.12, **_HUNYUAN_1_5)
    glyphs = torch.randn(1, 3, 1472, generator=torch.Generator().manual_seed(3))
    positive, negative = (text(24, seed, conditioning_byt5small=glyphs) for seed in (1, 2))
    return TinyModel("HunyuanVideo 1.5", model, positive, negative, (32, 3, 5, 4), detected=True)


def hunyuan_image() -> TinyModel:
    model = from_state_dict(HunyuanVideo, std=0.08, **_HUNYUAN_IMAGE)
    return TinyModel("HunyuanImage 2.1", model, text(24, 1), text(24, 2), (64, 10, 7), detected=True)


TINY = {
    "HunyuanVideo T2V": text_to_video,
    "HunyuanVideo I2V": image_to_video,
    "HunyuanVideo 1.5": hunyuan_video_1_5,
    "HunyuanImage 2.1": hunyuan_image,
}
