"""Recognises files of other models, which a user may mistake for Open-Sora-Plan, by keys that only they have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_TRANSFORMERS = (  # the first that fits; a pattern must match the beginning of a key
    (r"(spatial|temporal)_blocks\.\d", "Open-Sora 1.2 or 1.3 of hpcaitech, another project"),
    (r"blocks\.\d+\.(attn_temp|attn_cross)\.|blocks\.\d+\.mha\.", "Open-Sora 1.0 or 1.1 of hpcaitech, another project"),
    (r"double_blocks\.\d", "Open-Sora 2.0 of hpcaitech, or Flux or HunyuanVideo"),
    (r"(spatial|temporal)_vae\.", "the VAE of Open-Sora of hpcaitech, another project"),
    (r"(module\.)?pos_embed_masked_hidden_states\.", "Open-Sora-Plan's image-to-video model"),
    (r"encoder\.(conv_in|down)|decoder\.conv_in", "a VAE: load it with Load Open-Sora-Plan VAE"),
    (r"encoder\.block\.\d|shared\.weight", "a T5 text encoder: load it with CLIPLoader, type pixart"),
)
_VAES = (
    (r"(spatial|temporal)_vae\.", "the VAE of Open-Sora of hpcaitech, another project"),
    (r"(transformer_blocks|temporal_transformer_blocks)\.\d", "a transformer: load it with Load Open-Sora-Plan"),
    (r"encoder\.conv_in\.conv\.weight", "the VAE of Open-Sora-Plan 1.0, or of HunyuanVideo"),
    (r"encoder\.(middle|downsamples)\.|encoder\.down_blocks\.", "the VAE of another model (Wan, CogVideoX or others)"),
)


def check_version(tensors: Mapping[str, Tensor], config: Mapping[str, Any], version: str) -> None:
    """ValueError unless a file is a transformer of this version of Open-Sora-Plan. config: its config.json."""
    found = _version(tensors, config)
    if found is None:
        raise ValueError(
            f"this is {_other_transformer(tensors)}; Load Open-Sora-Plan reads the transformers of Open-Sora-Plan 1.0 "
            "to 1.3"
        )
    if found != version and (found, version) != ("1.1", "1.0"):
        raise ValueError(
            f"this is a transformer of Open-Sora-Plan {found}, not of {version}: choose {found} as the version of Load "
            "Open-Sora-Plan"
        )


def other_vae(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of what a file is instead of a VAE of Open-Sora-Plan 1.1 to 1.3; None if it may be one."""
    if (found := _first(_VAES, tensors)) is not None:
        return found
    low_bands = tensors.get("encoder.connect_l1.weight")
    if low_bands is not None and low_bands.ndim == 4 and low_bands.shape[1] != 12:
        return "the WF-VAE of Open-Sora-Plan 1.5"
    known = "encoder.conv_in.weight" in tensors or "encoder.down1.0.weight" in tensors
    return None if known else "no VAE of Open-Sora-Plan"


def _version(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str | None:
    """The version of Open-Sora-Plan of a transformer; 1.1 also for 1.0, whose files look alike."""
    if any(key.startswith("temporal_transformer_blocks.") for key in tensors):
        return "1.1"
    patches = tensors.get("pos_embed.proj.weight")
    if patches is None or patches.ndim != 4 or _first(_TRANSFORMERS, tensors) is not None:
        return None
    if not any(key.startswith("transformer_blocks.") for key in tensors):
        return None
    if patches.shape[1] == 8:
        return "1.3"
    named = str(config.get("_class_name", "")).startswith("OpenSoraT2V")
    return "1.2" if patches.shape[0] == 2304 or named else None


def _other_transformer(tensors: Mapping[str, Tensor]) -> str:
    if (found := _first(_TRANSFORMERS, tensors)) is not None:
        return found
    if not any(key.startswith("transformer_blocks.") for key in tensors):
        return "no transformer of Open-Sora-Plan"
    if "adaln_single.linear.weight" in tensors:
        return "PixArt, or another model without temporal blocks"
    return "another model of transformer blocks"


def _first(kinds: tuple[tuple[str, str], ...], tensors: Mapping[str, Tensor]) -> str | None:
    return next((name for pattern, name in kinds if any(re.match(pattern, key) for key in tensors)), None)
