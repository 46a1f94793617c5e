"""Wan 2.1 and 2.2: text to video, image to video, and the variants that keep their blocks."""

from __future__ import annotations

from typing import Any

import torch
from comfy.clip_vision import Output
from comfy.ldm.wan.model import CameraWanModel, SCAILWanModel, VaceWanModel, WanModel, WanModel_S2V
from comfy.ldm.wan.model_animate import AnimateWanModel
from torch import Tensor, nn

from .tiny_model import NotInThisHost, TinyModel, from_state_dict, text

_LATENT = (16, 3, 8, 8)
_SHAPE = dict(dim=256, ffn_dim=512, num_heads=2, num_layers=3)


def _random(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _tiny(
    name: str,
    network: type[nn.Module],
    *,
    extra: dict[str, Any] | None = None,
    latent: tuple[int, ...] = _LATENT,
    noise_mask: Tensor | None = None,
    std: float = 0.06,
    **shape: Any,
) -> TinyModel:
    """extra: what the model's own conditioning node adds."""
    model = from_state_dict(network, std=std, **{**_SHAPE, **shape})
    positive, negative = (text(4096, seed, **(extra or {})) for seed in (1, 2))
    return TinyModel(name, model, positive, negative, latent, detected=True, noise_mask=noise_mask)


def _clip_vision() -> Output:
    output = Output()
    output.penultimate_hidden_states = _random(1, 7, 1280)
    return output


def _first_frame() -> dict[str, Any]:
    """As WanImageToVideo gives a start image."""
    mask = torch.ones(1, 1, *_LATENT[1:])
    mask[:, :, :1] = 0
    return {"concat_latent_image": _random(1, *_LATENT), "concat_mask": mask}


def t2v() -> TinyModel:
    return _tiny("Wan 2.1 T2V", WanModel, model_type="t2v")


def i2v() -> TinyModel:
    return _tiny(
        "Wan 2.1 I2V",
        WanModel,
        model_type="i2v",
        in_dim=36,
        extra={**_first_frame(), "clip_vision_output": _clip_vision()},
    )


def ti2v() -> TinyModel:
    """The noise mask gives each frame its time: the first is the given image."""
    mask = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 3, 1, 1)
    return _tiny(
        "Wan 2.2 TI2V", WanModel, model_type="t2v", in_dim=48, out_dim=48, latent=(48, 3, 8, 8), noise_mask=mask
    )


def vace() -> TinyModel:
    extra = {
        "vace_frames": [_random(1, 32, *_LATENT[1:])],
        "vace_mask": [torch.ones(1, 64, *_LATENT[1:])],
        "vace_strength": [0.8],
    }
    return _tiny("Wan VACE", VaceWanModel, extra=extra, vace_layers=1, vace_in_dim=96)


def camera() -> TinyModel:
    extra = {
        **_first_frame(),
        "concat_latent_image": _random(1, *_LATENT),
        "camera_conditions": 0.02 * _random(1, 24, 3, 64, 64),
    }
    return _tiny("Wan Camera", CameraWanModel, extra=extra, model_type="camera_2.2", in_dim=36)


def scail() -> TinyModel:
    """A reference image before, and a pose video of half the size after the tokens of the video."""
    extra = {
        "clip_vision_output": _clip_vision(),
        "reference_latents": [_random(1, 16, 1, *_LATENT[2:])],
        "pose_video_latent": _random(1, 16, 3, 4, 4, seed=4),
    }
    return _tiny("Wan SCAIL", SCAILWanModel, extra=extra)


def scail_2() -> TinyModel:
    """A mask says who is who in the video."""
    extra = {
        "clip_vision_output": _clip_vision(),
        "reference_latents": [_random(1, 16, 1, *_LATENT[2:])],
        "pose_video_latent": _random(1, 16, 3, 4, 4, seed=4),
    }
    try:
        from comfy.ldm.wan.model import SCAIL2WanModel
    except ImportError:
        raise NotInThisHost("Wan SCAIL 2") from None
    return _tiny("Wan SCAIL 2", SCAIL2WanModel, extra=extra)


def s2v() -> TinyModel:
    extra = {
        "audio_embed": _random(1, 25, 1024, 12),
        "reference_latents": [_random(1, 16, 1, *_LATENT[2:])],
        "reference_motion": _random(1, 16, 19, *_LATENT[2:]),
        "control_video": _random(1, *_LATENT, seed=4),
    }
    return _tiny("Wan S2V", WanModel_S2V, extra=extra, std=0.08)


def animate() -> TinyModel:
    """Every fifth block has a face adapter. No face video: its encoder takes nothing below 512 x 512 pixels."""
    extra = {
        **_first_frame(),
        "clip_vision_output": _clip_vision(),
        "pose_video_latent": _random(1, 16, 2, *_LATENT[2:]),
    }
    return _tiny("Wan Animate", AnimateWanModel, extra=extra, in_dim=36, num_layers=5)


def dancer() -> TinyModel:
    extra = {**_first_frame(), "clip_vision_output": _clip_vision(), "audio_embed": _random(1, 12, 35)}
    try:
        from comfy.ldm.wan.model_wandancer import WanDancerModel
    except ModuleNotFoundError:
        raise NotInThisHost("Wan Dancer") from None
    return _tiny("Wan Dancer", WanDancerModel, extra=extra, in_dim=36)


TINY = {
    "Wan 2.1 T2V": t2v,
    "Wan 2.1 I2V": i2v,
    "Wan 2.2 TI2V": ti2v,
    "Wan VACE": vace,
    "Wan Camera": camera,
    "Wan SCAIL": scail,
    "Wan SCAIL 2": scail_2,
    "Wan S2V": s2v,
    "Wan Animate": animate,
    "Wan Dancer": dancer,
}
