"""DiT files: reads and checks them, infers the model's shape, and writes them.

The keys are those of the original release (facebookresearch/DiT), in a `.safetensors` file or a `.pt` of plain tensors.
"""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..blocks.attention import attention as core_attention
from ..files.error_line import error_line
from ..files.whole_file import whole_file
from .class_labels import names_in_metadata
from .model import DiT, DiTConfig, sincos_pos_embed

SUFFIXES = (".safetensors", ".pt")
LAYOUT_HINT = "DiT files in the key layout of facebookresearch/DiT are read"
POS_EMBED_TOLERANCE = 0.01  # above the error of a sine in bf16, far below any difference that training makes


class ModelFileError(ValueError):
    """A model file cannot be used: one line that names the file and the remedy."""


def read_dit(path: str | Path) -> tuple[dict[str, Tensor], DiTConfig, dict[str, str]]:
    """A DiT file's tensors (as stored, on the CPU), their DiT's shape, and the metadata (empty for a `.pt`)."""
    path = Path(path)
    try:
        state_dict, metadata = _read_tensors(path)
        config = infer_config(state_dict, metadata)
        _check_keys_and_shapes(state_dict, config)
        names_in_metadata(metadata, config.num_classes)
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return state_dict, config, metadata


def load_dit(
    path: str | Path,
    *,
    operations: Any = nn,
    attention: Callable = core_attention,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> DiT:
    """The DiT of a file, in eval mode.

    operations, attention: as for `DiT`.
    dtype: of the weights; None: float32.
    device: of the weights; None: the CPU.
    """
    state_dict, config, _ = read_dit(path)
    dtype = dtype or torch.float32
    model = DiT(config, operations=operations, attention=attention, dtype=dtype, device="meta")
    weights = {key: tensor.to(device=device, dtype=dtype) for key, tensor in state_dict.items()}
    model.load_state_dict(weights, assign=True)
    model.use_sincos_grid = has_sincos_grid(state_dict, config)
    return model.eval()


def save_dit(model: DiT, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write `model` to a `.safetensors` file, completely or not at all; its number of heads goes into the metadata."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ModelFileError(f"{path}: a DiT is saved as .safetensors; change the file's extension")
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    with whole_file(path) as part:
        save_file(tensors, part, metadata={"format": "pt", **(metadata or {}), "num_heads": str(model.config.heads)})


def infer_config(state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]) -> DiTConfig:
    """The shape of a DiT, from its tensors' shapes. The number of heads, which they do not show: see `_heads`."""
    width, channels, patch, _ = _shape(state_dict, "x_embedder.proj.weight", 4)
    _, tokens, _ = _shape(state_dict, "pos_embed", 3)
    rows, _ = _shape(state_dict, "y_embedder.embedding_table.weight", 2)
    hidden, _ = _shape(state_dict, "blocks.0.mlp.fc1.weight", 2)
    out_features, _ = _shape(state_dict, "final_layer.linear.weight", 2)
    grid = math.isqrt(tokens)
    if grid**2 != tokens:
        raise ModelFileError(f"its pos_embed has {tokens} tokens, which is not a square; train on a square grid")
    if out_features not in (patch**2 * channels, 2 * patch**2 * channels):
        raise ModelFileError(
            f"its final_layer.linear gives {out_features} features; {channels} channels in {patch}x{patch} patches "
            f"need {patch**2 * channels}, or twice that with a learned sigma"
        )
    if rows < 2:
        raise ModelFileError("its class table has no row for the null class; train it with label dropout")
    return DiTConfig(
        width=width,
        depth=_depth(state_dict),
        heads=_heads(width, metadata),
        patch_size=patch,
        in_channels=channels,
        num_classes=rows - 1,
        input_size=grid * patch,
        learn_sigma=out_features == 2 * patch**2 * channels,
        mlp_ratio=_mlp_ratio(hidden, width),
    )


def has_sincos_grid(state_dict: Mapping[str, Tensor], config: DiTConfig) -> bool:
    """Whether the position embedding is the fixed sin-cos one, which can be regenerated for another grid."""
    if config.width % 4:
        return False
    stored, grid = state_dict["pos_embed"], config.input_size // config.patch_size
    tolerance = max(POS_EMBED_TOLERANCE, torch.finfo(stored.dtype).eps)
    return torch.allclose(stored.float(), sincos_pos_embed(config.width, grid, grid), rtol=0, atol=tolerance)


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise ModelFileError("there is no such file; check its name and folder")
    if path.suffix not in SUFFIXES:
        raise ModelFileError(f"a DiT is a {' or '.join(SUFFIXES)} file, not '{path.suffix}'; convert it first")
    state_dict, metadata = (_read_pt(path), {}) if path.suffix == ".pt" else _read_safetensors(path)
    for key, tensor in state_dict.items():
        if not tensor.is_floating_point():
            raise ModelFileError(f"'{key}' holds {tensor.dtype}, not floating-point weights; save it unquantised")
        if not (tensor if tensor.itemsize > 1 else tensor.float()).isfinite().all():
            raise ModelFileError(f"'{key}' holds NaN or infinity; download or save it again")
    return state_dict, metadata


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"it is truncated or damaged ({error_line(error)}); download or save it again") from None


def _read_pt(path: Path) -> dict[str, Tensor]:
    _refuse_compressed(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelFileError(
            "it holds more than plain tensors (or is damaged); it was not loaded, because such a file can run code; "
            "if you trust it, save only its state dict, best as .safetensors"
        ) from None
    except Exception as error:  # the reader raises many kinds of errors for other files
        raise ModelFileError(f"it is truncated or damaged ({error_line(error)}); download or save it again") from None
    for nested in ("ema", "model"):  # as in the files of the original release's training script
        if isinstance(loaded, dict) and isinstance(loaded.get(nested), dict):
            loaded = loaded[nested]
            break
    if not isinstance(loaded, dict):
        raise ModelFileError(f"it holds a {type(loaded).__name__}, not a state dict; save model.state_dict()")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelFileError(
                f"it holds more than plain tensors: '{key}' is a {type(value).__name__}; save only model.state_dict()"
            )
        if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise ModelFileError(f"'{key}' is no plain tensor of weights; save only model.state_dict()")
        if value.nbytes > value.untyped_storage().nbytes():  # a few bytes that claim to be many
            raise ModelFileError(f"'{key}' has more elements than the file; save contiguous tensors")
    return dict(loaded)


def _refuse_compressed(path: Path) -> None:
    """ModelFileError for a zip that would be larger in memory than on the disk: torch.save compresses nothing."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelFileError(f"it is truncated or damaged ({error_line(error)}); download or save it again") from None
    if compressed or size > path.stat().st_size:
        raise ModelFileError("it is compressed, as torch.save never does it; save its state dict as .safetensors")


def _shape(state_dict: Mapping[str, Tensor], key: str, dimensions: int) -> torch.Size:
    if key not in state_dict:
        raise ModelFileError(f"it is not a DiT: it has no key '{key}'; {LAYOUT_HINT}")
    shape = state_dict[key].shape
    if len(shape) != dimensions or 0 in shape:
        raise ModelFileError(
            f"it is not a DiT: '{key}' has shape {tuple(shape)}, not {dimensions} dimensions; {LAYOUT_HINT}"
        )
    return shape


def _depth(state_dict: Iterable[str]) -> int:
    numbers = {int(match[1]) for key in state_dict if (match := re.match(r"blocks\.(\d+)\.", key))}
    missing = set(range(len(numbers))) - numbers
    if missing:
        raise ModelFileError(f"it is not a whole DiT: 'blocks.{min(missing)}' is missing; download or save it again")
    return len(numbers)


def _heads(width: int, metadata: Mapping[str, str]) -> int:
    """The number of heads: from the metadata, else 16 at DiT-XL's width, else heads of width 64 as in other sizes."""
    stated = metadata.get("num_heads")
    if stated is not None:
        if not stated.isdecimal() or int(stated) == 0 or width % int(stated):
            raise ModelFileError(f"its metadata `num_heads` = '{stated}' does not divide its width {width}; correct it")
        return int(stated)
    if width == 1152:
        return 16
    if width % 64:
        raise ModelFileError(
            f"its width {width} is not a multiple of 64, so the number of attention heads is unknown; "
            "save it as .safetensors with `num_heads` in the metadata"
        )
    return width // 64


def _mlp_ratio(hidden: int, width: int) -> float:
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)  # int() rounds down


def _check_keys_and_shapes(state_dict: Mapping[str, Tensor], config: DiTConfig) -> None:
    expected = DiT(config, device="meta").state_dict()
    missing = [key for key in expected if key not in state_dict]
    if missing:
        raise ModelFileError(f"it is not a whole DiT: {_some(missing)} missing; {LAYOUT_HINT}")
    unexpected = [key for key in state_dict if key not in expected]
    if unexpected:
        raise ModelFileError(f"it is not a plain DiT: {_some(unexpected)} unknown; {LAYOUT_HINT}")
    for key, tensor in expected.items():
        if state_dict[key].shape != tensor.shape:
            raise ModelFileError(
                f"'{key}' has shape {tuple(state_dict[key].shape)}, but the other tensors require "
                f"{tuple(tensor.shape)}; download or save it again"
            )


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(f"'{key}'" for key in keys[:3]) + more + (" is" if len(keys) == 1 else " are")
