"""Infers the shape of a video transformer from its tensors, and from the config.json beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..files.strict_json import shown, whole
from .config import SkipSparseConfig, VideoConfig, frame_stride

FACTORISED_HEAD, SKIP_SPARSE_HEAD = 72, 96  # widths of a head in the released models
_FACTORISED_BLOCK, _SKIP_SPARSE_BLOCK = re.compile(r"blocks\.(\d+)\."), re.compile(r"transformer_blocks\.(\d+)\.")
_LARGEST_SIDE, _MOST_FRAMES, _LARGEST_SKIP = 16_384, 100_000, 64


def infer_config(tensors: Mapping[str, Tensor], said: Mapping[str, Any], version: str) -> VideoConfig:
    """The shape of a transformer of 1.1 or 1.0, from its tensors and from the config.json beside them.

    said: the content of config.json, for what the tensors do not show: heads, and the trained size and number of
        frames. Where it says nothing, these are those of the release for 65x512x512.
    version: 1.1 or 1.0.
    """
    width, channels, patch, _ = _shape(tensors, "pos_embed.proj.weight", 4)
    features, _ = _shape(tensors, "proj_out.weight", 2)
    _, caption_channels = _shape(tensors, "caption_projection.linear_1.weight", 2)
    if features not in (patch**2 * channels, 2 * patch**2 * channels):
        raise ValueError(
            f"its proj_out gives {features} features; {channels} channels in patches of {patch}x{patch} need "
            f"{patch**2 * channels}, or twice that with a learned sigma"
        )
    config = VideoConfig(
        width=width,
        depth=_depth(tensors, _FACTORISED_BLOCK),
        heads=_heads(width, said, FACTORISED_HEAD),
        patch_size=patch,
        in_channels=channels,
        learn_sigma=features == 2 * patch**2 * channels,
        caption_channels=caption_channels,
        sample_size=_sample_size(said),
        video_length=whole(said.get("video_length", VideoConfig.video_length), "its video_length", 1, _MOST_FRAMES),
    )
    return replace(config, frame_stride=frame_stride(config.video_length, version))


def infer_skip_sparse_config(tensors: Mapping[str, Tensor], said: Mapping[str, Any], version: str) -> SkipSparseConfig:
    """The shape of a transformer of 1.3 or 1.2, from its tensors and from the config.json beside them.

    said: the content of config.json, for heads, the sparsity of attention and the stretch of positions. Where it says
        nothing, these are those of the released 1.3.
    version: 1.3 or 1.2.
    """
    width, channels, patch, _ = _shape(tensors, "pos_embed.proj.weight", 4)
    features, _ = _shape(tensors, "proj_out.weight", 2)
    _, caption_channels = _shape(tensors, "caption_projection.linear_1.weight", 2)
    if features != patch**2 * channels:
        raise ValueError(
            f"its proj_out gives {features} features; {channels} channels in patches of {patch}x{patch} need "
            f"{patch**2 * channels}"
        )
    heads = _heads(width, said, SKIP_SPARSE_HEAD)
    if width % (6 * heads):
        raise ValueError(
            f"its heads are {width // heads} wide, which is no multiple of 6, as positions in time and space need"
        )
    sparse = version == "1.3" and said.get("sparse1d", True) is not False
    frames, height, side = (_sample(said, f"sample_size_{axis}") for axis in "thw")
    default = SkipSparseConfig
    return SkipSparseConfig(
        width=width,
        depth=_depth(tensors, _SKIP_SPARSE_BLOCK),
        heads=heads,
        patch_size=patch,
        in_channels=channels,
        caption_channels=caption_channels,
        skip=whole(said.get("sparse_n", default.skip), "its sparse_n", 1, _LARGEST_SKIP) if sparse else 1,
        stretch=(_stretch(said, "t"), _stretch(said, "h"), _stretch(said, "w")),
        predicts_velocity=version == "1.3",
        sample_frames=frames or default.sample_frames,
        sample_height=height or default.sample_height,
        sample_width=side or default.sample_width,
    )


def _shape(tensors: Mapping[str, Tensor], key: str, dimensions: int) -> tuple[int, ...]:
    if key not in tensors:
        raise ValueError(f"it is not whole: it has no key '{key}'; download it again")
    shape = tuple(tensors[key].shape)
    if len(shape) != dimensions or 0 in shape:
        raise ValueError(f"'{key}' has shape {shape}, not {dimensions} dimensions; download it again")
    return shape


def _depth(tensors: Mapping[str, Tensor], block: re.Pattern[str]) -> int:
    numbers = {int(match[1]) for key in tensors if (match := block.match(key))}
    missing = set(range(len(numbers))) - numbers
    if missing:
        raise ValueError(f"it is not whole: it has no block number {min(missing)}; download it again")
    return len(numbers)


def _heads(width: int, said: Mapping[str, Any], usual: int) -> int:
    """The number of heads. usual: the width of a head if config.json does not say how many there are."""
    if "num_attention_heads" in said:
        heads = whole(said["num_attention_heads"], "its num_attention_heads", 1)
        if width % heads:
            raise ValueError(f"its num_attention_heads {heads} does not divide its width {width}; correct config.json")
        return heads
    if width % usual:
        raise ValueError(
            f"its width {width} is not a multiple of {usual}, so its number of heads is unknown; put its "
            "config.json beside it"
        )
    return width // usual


def _sample_size(said: Mapping[str, Any]) -> int:
    """The side of the latents; released files have it twice."""
    sides = said.get("sample_size", VideoConfig.sample_size)
    sides = sides if isinstance(sides, list) else [sides]
    if not sides or any(side != sides[0] for side in sides):
        raise ValueError(f"its sample_size must be one side of a square, not {shown(sides)}; correct config.json")
    return whole(sides[0], "its sample_size", 1, _LARGEST_SIDE)


def _sample(said: Mapping[str, Any], name: str) -> int | None:
    """A size that the model was trained on: a number, or the last of several; None if config.json has none."""
    value = said.get(name)
    if isinstance(value, list) and value:
        value = value[-1]
    return None if value is None else whole(value, f"its {name}", 1, _MOST_FRAMES)


def _stretch(said: Mapping[str, Any], axis: str) -> float:
    value = said.get(f"interpolation_scale_{axis}", 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1000:
        raise ValueError(f"its interpolation_scale_{axis} must be a number above 0, not {shown(value)}")
    return float(value)
