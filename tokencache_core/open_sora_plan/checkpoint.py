"""Files of the video transformer: reads and checks them, infers the model's shape, and writes them.

The keys are those of the releases. What 1.1 calls `transformer_blocks.*` and `temporal_transformer_blocks.*`, the
network has as `blocks.*.spatial` and `blocks.*.temporal`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..blocks.attention import attention as core_attention
from ..files.whole_file import whole_file
from ..flux.prompts import PromptTable
from .config import SkipSparseConfig, VideoConfig
from .inferred_shape import infer_config, infer_skip_sparse_config
from .metadata import METADATA_KEY, ClipMetadata
from .model import VideoTransformer
from .other_models import check_version
from .released_files import VideoFileError, check_tensors, read_released
from .skip_sparse import SkipSparseTransformer

VERSIONS = ("1.3", "1.2", "1.1", "1.0")
FACTORISED = "1.1"  # the version of files that bring their own words
TABLE = "prompt_table."
_UNUSED = {"caption_projection.y_embedding"}  # of training: captions that were left out
_OF_COMFYUI = "model.diffusion_model."  # before the names in files that its node Save Model writes
_MARKS_OF_COMFYUI = {"v_pred", "ztsnr"}  # beside the weights in such files: what a model predicts
_IN_NETWORK = re.compile(r"blocks\.(\d+)\.(spatial|temporal)\.(.+)")
_RELEASED = re.compile(r"(temporal_)?transformer_blocks\.(\d+)\.(.+)")


def network_key(key: str) -> str:
    """The network's name of a tensor that is called `key` in released files of 1.1 and 1.0."""
    match = _RELEASED.fullmatch(key)
    return key if match is None else f"blocks.{match[2]}.{'temporal' if match[1] else 'spatial'}.{match[3]}"


def released_key(key: str) -> str:
    """The name in released files of a network's tensor `key`, of any version."""
    match = _IN_NETWORK.fullmatch(key)
    if match is None:
        return key
    return f"{'temporal_' if match[2] == 'temporal' else ''}transformer_blocks.{match[1]}.{match[3]}"


def is_clip_file(path: str | Path) -> bool:
    """Whether a file says that it holds a video model that brings its own words; False for a damaged file."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_video_transformer(
    path: str | Path, version: str = FACTORISED
) -> tuple[dict[str, Tensor], VideoConfig | SkipSparseConfig, PromptTable | None]:
    """A transformer's tensors as stored, under the network's names; its shape; and its table of words, if it brings
    one.

    path: a file, or a folder of shards, as in `read_released`.
    version: one of VERSIONS. A file of another version is refused, except that files of 1.1 and 1.0 look alike, though
        they count frames differently.
    """
    try:
        released = read_released(path)
        held = {
            key.removeprefix(_OF_COMFYUI): tensor
            for key, tensor in released.tensors.items()
            if key not in _MARKS_OF_COMFYUI
        }
        check_version(held, released.config, version)
        if version in ("1.3", "1.2"):
            config = infer_skip_sparse_config(held, released.config, version)
            check_tensors(held, _expected(config), f"a transformer of Open-Sora-Plan {version}")
            return held, config, None
        tensors = {network_key(key): tensor for key, tensor in held.items() if key not in _UNUSED}
        words = {key.removeprefix(TABLE): tensors.pop(key) for key in list(tensors) if key.startswith(TABLE)}
        if METADATA_KEY in released.metadata:
            said = ClipMetadata.from_text(released.metadata[METADATA_KEY])
            config, table = said.config, _table(said, words)
        else:
            config, table = infer_config(tensors, released.config, version), None
        check_tensors(tensors, _expected(config), "a transformer of Open-Sora-Plan 1.1")
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
    """The transformer of a file of 1.1, in eval mode, in float32 unless `dtype` says otherwise, and its own words if
    any.
    """
    tensors, config, table = read_video_transformer(path)
    assert isinstance(config, VideoConfig)
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


def _table(said: ClipMetadata, words: Mapping[str, Tensor]) -> PromptTable:
    table = said.table(device="meta")
    check_tensors(words, table.state_dict(), "a table of words")
    table.load_state_dict({key: tensor.float() for key, tensor in words.items()}, assign=True)
    return table.eval().requires_grad_(False)


def _expected(config: VideoConfig | SkipSparseConfig) -> dict[str, Tensor]:
    """The state dict of a network of this shape, with shapes only."""
    if isinstance(config, VideoConfig):
        return VideoTransformer(config, device="meta").state_dict()
    return SkipSparseTransformer(config, device="meta").state_dict()
