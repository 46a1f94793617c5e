"""Stable Audio 1, which prepends one token of global conditioning, and 3: memory tokens, differential attention, an
inpainting input.

The host detects Stable Audio 1 only with its 24 heads.
"""

from __future__ import annotations

from typing import Any

import comfy.supported_models
import torch
from comfy.ldm.audio.dit import AudioDiffusionTransformer
from comfy.ldm.audio.embedders import NumberConditioner
from torch import Tensor

from .tiny_model import NotInThisHost, TinyModel, from_config, from_state_dict, random_weights, text

_SHAPE_1 = dict(
    audio_model="dit1.0",
    embed_dim=64,
    cond_token_dim=768,
    project_cond_tokens=True,
    global_cond_dim=1536,
    depth=3,
    num_heads=2,
)
_SHAPE_3 = dict(
    io_channels=256,
    embed_dim=64,
    cond_token_dim=768,
    project_cond_tokens=True,
    global_cond_dim=768,
    depth=3,
    num_heads=2,
    timestep_features_type="learned",
    global_cond_type="adaLN",
    global_cond_shared_embed=True,
    local_add_cond_dim=257,
    num_memory_tokens=6,
    norm_type="rms_norm",
    attn_kwargs={"qk_norm": "rms", "differential": True},
)
_ROTARY_FREQUENCIES = 10000 ** -(torch.arange(0, 32, 2) / 32)


def _stable_audio_1(name: str, **shape: Any) -> TinyModel:
    config = comfy.supported_models.StableAudio({**_SHAPE_1, **shape})
    model = from_config(config, 0.15, _embedders("seconds_start", "seconds_total"))
    model.model.diffusion_model.transformer.rotary_pos_emb.inv_freq = _ROTARY_FREQUENCIES
    return TinyModel(name, model, text(768, 1), text(768, 2), (64, 37))


def stable_audio_1() -> TinyModel:
    return _stable_audio_1("Stable Audio")


def stable_audio_small() -> TinyModel:
    """Its attention averages over the tokens, so that no token can be computed without the others."""
    return _stable_audio_1("Stable Audio Open Small", attn_kwargs={"qk_norm": "ln", "feat_scale": True})


def stable_audio_3() -> TinyModel:
    if not hasattr(comfy.supported_models, "StableAudio3"):
        raise NotInThisHost("Stable Audio 3")
    others = {"transformer.rotary_pos_emb.inv_freq": _ROTARY_FREQUENCIES, **_embedders("seconds_total")}
    model = from_state_dict(AudioDiffusionTransformer, 0.1, others, **_SHAPE_3)
    return TinyModel("Stable Audio 3", model, text(768, 1), text(768, 2), (256, 37), detected=True)


def _embedders(*numbers: str) -> dict[str, Tensor]:
    """Weights of what embeds a clip's beginning and length in seconds."""
    weights = {}
    for number in numbers:
        conditioner = NumberConditioner(768)
        random_weights(conditioner)
        weights |= {
            f"conditioner.conditioners.{number}.{name}": value for name, value in conditioner.state_dict().items()
        }
    return weights


TINY = {"Stable Audio": stable_audio_1, "Stable Audio 3": stable_audio_3}
