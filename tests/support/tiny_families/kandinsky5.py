"""Kandinsky 5 for video and for images."""

from __future__ import annotations

from comfy.ldm.kandinsky5.model import Kandinsky5
from comfy.supported_models import Kandinsky5Image

from .tiny_model import TinyModel, from_config, from_state_dict, text

_SHAPE = dict(time_dim=64, ff_dim=256, num_text_blocks=1, num_visual_blocks=3)
_IMAGE = dict(
    image_model="kandinsky5",
    model_dim=256,
    visual_embed_dim=64,
    axes_dims=(32, 48, 48),
    rope_scale_factor=(1.0, 1.0, 1.0),
)


def video() -> TinyModel:
    model = from_state_dict(Kandinsky5, std=0.06, model_dim=128, **_SHAPE)
    positive, negative = (text(3584, seed, pooled=768) for seed in (1, 2))
    return TinyModel("Kandinsky 5 video", model, positive, negative, (16, 3, 10, 6), detected=True)


def image() -> TinyModel:
    model = from_config(Kandinsky5Image({**_IMAGE, **_SHAPE}), std=0.06)
    positive, negative = (text(3584, seed, pooled=768) for seed in (1, 2))
    return TinyModel("Kandinsky 5 image", model, positive, negative, (16, 18, 12))


TINY = {"Kandinsky 5 video": video, "Kandinsky 5 image": image}
