"""Files of the video transformer: reads and checks them, infers the model's shape, and writes them.

The keys are those of the releases, `transformer_blocks.*` and `temporal_transformer_blocks.*`, which the network has as
`blocks.*.spatial` and `blocks.*.temporal`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..blocks.attention import attention as core_attention
from ..files.strict_json import shown, whole
from ..files.whole_file import whole_file
from ..flux.prompts import PromptTable
from .config import VideoConfig, frame_stride
from .metadata import METADATA_KEY, ClipMetadata
from .model import VideoTransformer
from .other_models import other_transformer
from .released_files import VideoFileError, check_tensors, read_released

VERSIONS = ("1.1", "1.0")
HEAD_WIDTH = 72  # of the released models
TABLE = "prompt_table."
_UNUSED = {"caption_projection.y_embedding"}  # of training: captions that were left out
_OF_COMFYUI = "model.diffusion_model."  # before the names in files that its node Save Model writes
_IN_NETWORK = re.compile(r"blocks\.(\d+)\.(spatial|temporal)\.(.+)")
_RELEASED = re.compile(r"(temporal_)?transformer_blocks\.(\d+)\.(.+)")
_LARGEST_SIDE, _MOST_FRAMES = 16_384, 100_000


def network_key(key: str) -> str:
    """The network's name of a tensor that is called `key` in released files."""
    match = _RELEASED.fullmatch(key)
    return key if match is None else f"blocks.{match[2]}.{'temporal' if match[1] else 'spatial'}.{match[3]}"


def released_key(key: str) -> str:
    """The name in released files of the network's tensor `key`."""
    match = _IN_NETWORK.fullmatch(key)
    if match is None:
        return key
    return f"{'temporal_' if match[2] == 'temporal' else ''}transformer_blocks.{match[1]}.{match[3]}"


def is_clip_file(path: str | Path) -> bool:
    """Whether a file says of itself that it holds a video model that brings its own words; False of a damaged one."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_video_transformer(
    path: str | Path, version: str = VERSIONS[0]
) -> tuple[dict[str, Tensor], VideoConfig, PromptTable | None]:
    """A transformer's tensors as stored, under the network's names, its shape, and the words that it knows if it brings
    its own text.

    path: a file, or a folder of shards, as `read_released` takes it.
    version: one of VERSIONS; files of both look alike, but count frames differently.
    """
    try:
        released = read_released(path)
        held = {key.removeprefix(_OF_COMFYUI): tensor for key, tensor in released.tensors.items()}
        if (other := other_transformer(held, released.config)) is not None:
            raise ValueError(
                f"this is {other}; Load Open-Sora-Plan reads the transformers of Open-Sora-Plan 1.1 and 1.0"
            )
        tensors = {network_key(key): tensor for key, tensor in held.items() if key not in _UNUSED}
        words = {key.removeprefix(TABLE): tensors.pop(key) for key in list(tensors) if key.startswith(TABLE)}
        if METADATA_KEY in released.metadata:
            said = ClipMetadata.from_text(released.metadata[METADATA_KEY])
            config, table = said.config, _table(said, words)
        else:
            config, table = infer_config(tensors, released.config, version), None
        expected = VideoTransformer(config, device="meta").state_dict()
        check_tensors(tensors, expected, "a transformer of Open-Sora-Plan 1.1")
    except ValueError as error:
        raise VideoFileError(f"{path}: {error}") from None
    return tensors, config, table


def load_video_transformer(
    path: str | Path,
    *,
    operations: Any = nn,
    attention: Callable = core_attention,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[VideoTransformer, PromptTable | None]:
    """The transformer of a file, in eval mode, in float32 unless `dtype` says otherwise, and its own words if any."""
    tensors, config, table = read_video_transformer(path)
    dtype = dtype or torch.float32
    model = VideoTransformer(config, operations=operations, attention=attention, dtype=dtype, device="meta")
    model.load_state_dict({key: tensor.to(device=device, dtype=dtype) for key, tensor in tensors.items()}, assign=True)
    return model.eval().requires_grad_(False), table


def save_video_transformer(
    model: VideoTransformer, table: PromptTable, path: str | Path, *, licence: str, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write a transformer that brings its own words to a `.safetensors` file, completely or not at all."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise VideoFileError(f"{path}: a video transformer is saved as .safetensors; change the name's ending")
    tensors = {released_key(key): tensor for key, tensor in model.state_dict().items()}
    tensors |= {TABLE + key: tensor for key, tensor in table.state_dict().items()}
    said = ClipMetadata(model.config, table.words, table.length, table.examples, licence)
    with whole_file(path) as part:
        stored = {key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in tensors.items()}
        save_file(stored, part, metadata={"format": "pt", METADATA_KEY: said.as_text()})


def infer_config(tensors: Mapping[str, Tensor], said: Mapping[str, Any], version: str) -> VideoConfig:
    """The shape of a transformer from its tensors, and from what the config.json beside them said of what they do not
    show: heads, and the trained size and number of frames. Without one these are those of 65x512x512.
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
        depth=_depth(tensors),
        heads=_heads(width, said),
        patch_size=patch,
        in_channels=channels,
        learn_sigma=features == 2 * patch**2 * channels,
        caption_channels=caption_channels,
        sample_size=_sample_size(said),
        video_length=whole(said.get("video_length", VideoConfig.video_length), "its video_length", 1, _MOST_FRAMES),
    )
    return replace(config, frame_stride=frame_stride(config.video_length, version))


def _table(said: ClipMetadata, words: Mapping[str, Tensor]) -> PromptTable:
    table = said.table(device="meta")
    check_tensors(words, table.state_dict(), "a table of words")
    table.load_state_dict({key: tensor.float() for key, tensor in words.items()}, assign=True)
    return table.eval().requires_grad_(False)


def _shape(tensors: Mapping[str, Tensor], key: str, dimensions: int) -> torch.Size:
    if key not in tensors:
        raise ValueError(f"it is not whole: it has no key '{key}'; download it again")
    shape = tensors[key].shape
    if len(shape) != dimensions or 0 in shape:
        raise ValueError(f"'{key}' has shape {tuple(shape)}, not {dimensions} dimensions; download it again")
    return shape


def _depth(tensors: Mapping[str, Tensor]) -> int:
    numbers = {int(match[1]) for key in tensors if (match := _IN_NETWORK.fullmatch(key))}
    missing = set(range(len(numbers))) - numbers
    if missing:
        raise ValueError(f"it is not whole: it has no block number {min(missing)}; download it again")
    return len(numbers)


def _heads(width: int, said: Mapping[str, Any]) -> int:
    if "num_attention_heads" in said:
        heads = whole(said["num_attention_heads"], "its num_attention_heads", 1)
        if width % heads:
            raise ValueError(f"its num_attention_heads {heads} does not divide its width {width}; correct config.json")
        return heads
    if width % HEAD_WIDTH:
        raise ValueError(
            f"its width {width} is not a multiple of {HEAD_WIDTH}, so its number of heads is unknown; put its "
            "config.json beside it"
        )
    return width // HEAD_WIDTH


def _sample_size(said: Mapping[str, Any]) -> int:
    """The side of the latents; released files have it twice."""
    sides = said.get("sample_size", VideoConfig.sample_size)
    sides = sides if isinstance(sides, list) else [sides]
    if not sides or any(side != sides[0] for side in sides):
        raise ValueError(f"its sample_size must be one side of a square, not {shown(sides)}; correct config.json")
    return whole(sides[0], "its sample_size", 1, _LARGEST_SIDE)
